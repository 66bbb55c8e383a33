"""Secrets leave for the server they were given for, when it has proved who it is, and as what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.errors import LocalFault, PeerViolation
from proxy.model import Location, SealedGrant
from proxy.net.vault import Vault
from tollbridge.model import (
    Challenge,
    Credential,
    Endpoint,
    SigningKey,
    StsChallenge,
    TlsFacts,
    TlsMode,
    Token,
)
from tollbridge.secret import Secret

HERE = Location(database="orders", endpoint=Endpoint(host="db.example", port=27017), tls=TlsFacts())
OTHER = Location(database="orders", endpoint=Endpoint(host="other.example", port=27017), tls=TlsFacts())
WEAKER = Location(database="orders", endpoint=HERE.endpoint, tls=TlsFacts(mode=TlsMode.INSECURE))
TOKEN = Token(user="app", password=Secret("open sesame"))
KEY = SigningKey(
    access_key_id="ASIA1", session_token=Secret("t"), region="r", service="dynamodb", keys={"20300101": Secret("00")}
)
STS = "sts.us-west-1.amazonaws.com"
ASKED = StsChallenge(nonce=bytes(64), host=STS)

Take = Callable[[Vault, SealedGrant, Location | None], object]
TAKES: dict[str, tuple[Take, Credential]] = {
    "password": (Vault.password, TOKEN),
    "signing key": (Vault.signing_key, KEY),
    "challenge": (lambda vault, grant, verified: vault.challenge(grant, verified, ASKED), Challenge(host=STS)),
}


def sealed() -> SealedGrant:
    return SealedGrant(location=HERE, decision_id="d", credential_id="c", user="app", reused=False)


def vault_with(credential: Credential) -> tuple[Vault, SealedGrant]:
    vault, grant = Vault(), sealed()
    vault.put(grant, credential)
    return vault, grant


@pytest.mark.parametrize("kind", TAKES)
def test_each_kind_opens_for_its_own_server(kind: str) -> None:
    take, credential = TAKES[kind]
    vault, grant = vault_with(credential)
    assert take(vault, grant, HERE) in (credential, "open sesame", ASKED)


@pytest.mark.parametrize("kind", TAKES)
@pytest.mark.parametrize("verified", [None, OTHER, WEAKER], ids=["nobody", "another server", "a weaker check"])
def test_no_kind_opens_for_anybody_else(kind: str, verified: Location | None) -> None:
    take, credential = TAKES[kind]
    vault, grant = vault_with(credential)
    with pytest.raises(LocalFault):
        take(vault, grant, verified)


@pytest.mark.parametrize("kind", TAKES)
def test_a_grant_that_was_made_up_opens_nothing(kind: str) -> None:
    take, credential = TAKES[kind]
    vault, _ = vault_with(credential)
    with pytest.raises(LocalFault, match="was not given"):
        take(vault, sealed(), HERE)


@pytest.mark.parametrize("kind", TAKES)
@pytest.mark.parametrize("other", TAKES)
def test_no_kind_is_taken_for_another(kind: str, other: str) -> None:
    if kind == other:
        return
    vault, grant = vault_with(TAKES[other][1])
    with pytest.raises(LocalFault, match="takes a"):
        TAKES[kind][0](vault, grant, HERE)


@pytest.mark.parametrize("host", ["sts.evil.example", "sts.us-east-1.amazonaws.com", "", STS.upper(), STS + "."])
def test_a_server_that_wants_a_proof_for_another_host_gets_none(host: str) -> None:
    vault, grant = vault_with(Challenge(host=STS))
    with pytest.raises(PeerViolation, match="only"):
        vault.challenge(grant, HERE, StsChallenge(nonce=bytes(64), host=host))


def test_what_was_cleared_is_gone() -> None:
    vault, grant = vault_with(TOKEN)
    vault.clear()
    with pytest.raises(LocalFault, match="was not given"):
        vault.password(grant, HERE)
