"""The signature that Keyspaces takes, against answers that others computed."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from proxy.engines.cassandra import proof
from proxy.errors import PeerViolation, Refused
from tests.support import cql
from tollbridge.model import SigningKey
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/specials=="


def key(access_key_id: str, date: str, derived: str, token: str = TOKEN) -> SigningKey:
    """Of us-west-2."""
    return SigningKey(
        access_key_id=access_key_id,
        session_token=Secret(token),
        region="us-west-2",
        service="cassandra",
        keys={date: Secret(derived)},
    )


KEY = key("ASIAIOSFODNN7EXAMPLE", "20260115", "4c34a3a7b6a8446eb4d16e70823bda395982fd66f3aff6c94c84692b6d72a817")


def derived(secret: str, date: str) -> str:
    """The signing key of a secret that is known, for cassandra in us-west-2."""

    value = f"AWS4{secret}".encode()
    for part in (date, "us-west-2", "cassandra", "aws4_request"):
        value = hmac.digest(value, part.encode(), "sha256")
    return value.hex()


def test_the_vector_of_aws_own_plugin() -> None:
    """From the tests of the plugins that AWS publishes for its drivers."""
    plugins = key("UserID-1", "20200609", derived("UserSecretKey-1", "20200609"), "")
    instant = datetime(2020, 6, 9, 22, 41, 51, tzinfo=UTC)
    asked = proof.canonical_request(
        plugins, cql.NONCE, proof.timestamp(instant), "20200609/us-west-2/cassandra/aws4_request"
    )
    assert hashlib.sha256(cql.NONCE).hexdigest() == "ddf250111597b3f35e51e649f59e3f8b30ff5b247166d709dc1b1e60bd927070"
    assert asked.endswith("ddf250111597b3f35e51e649f59e3f8b30ff5b247166d709dc1b1e60bd927070")
    hashed = hashlib.sha256(asked.encode()).hexdigest()
    assert hashed == "bf5cc15759befc37fc35689dcdd7938a9ad042b6326f537c4c5eecaa2ebf911e"
    said = proof.answer(plugins, cql.NONCE, instant)
    assert said == (
        b"signature=7f3691c18a81b8ce7457699effbfae5b09b4e0714ab38c1292dbdf082c9ddd87,access_key=UserID-1,"
        b"amzdate=2020-06-09T22:41:51.000Z"
    )


def test_a_sessions_token_is_shown_as_it_is_and_not_signed() -> None:
    """Computed by botocore and by a signer written from the specification."""
    said = proof.answer(KEY, cql.NONCE, NOON)
    assert said == (
        b"signature=6ef3d1f1cd5a9d633aed9070458fb5423f87c942a81fba14c448f8a5089275c4,access_key=ASIAIOSFODNN7EXAMPLE,"
        b"amzdate=2026-01-15T12:00:00.000Z,session_token=" + TOKEN.encode()
    )


@pytest.mark.parametrize(
    ("microseconds", "milliseconds"), [(0, "000"), (999, "000"), (1_000, "001"), (999_499, "999"), (999_999, "999")]
)
def test_milliseconds_are_cut_and_never_rounded(microseconds: int, milliseconds: str) -> None:
    """Rounded, the last half of the last one is `.1000Z`, which no server reads."""
    assert proof.timestamp(NOON + timedelta(microseconds=microseconds)) == f"2026-01-15T12:00:00.{milliseconds}Z"


def test_a_day_without_a_key_is_a_clock_that_is_wrong() -> None:
    """Both dates are named; so is what to do."""
    with pytest.raises(Refused, match=r"clock says 2026-01-16.* keys for 20260115.*NTP") as caught:
        proof.answer(KEY, cql.NONCE, NOON + timedelta(days=1))
    assert caught.value.reason is Reason.CLOCK_SKEWED


def test_the_nonce_is_32_characters_wherever_it_stands() -> None:
    assert proof.parse_nonce(b"nonce=" + cql.NONCE) == cql.NONCE
    assert proof.parse_nonce(b"a=b,nonce=" + cql.NONCE + b",more") == cql.NONCE


@pytest.mark.parametrize(
    "challenge",
    [b"", b"nonce=", b"nonce=" + cql.NONCE[1:], b"nonc" + cql.NONCE, b"nonce=" + b"\xff" * 64, b"nonce=" + b"\n" * 64],
)
def test_a_challenge_without_a_nonce_is_signed_by_nobody(challenge: bytes) -> None:
    with pytest.raises(PeerViolation, match="no nonce"):
        proof.parse_nonce(challenge)


def test_the_proof_shows_itself_in_no_repr() -> None:
    """The key and the token are secrets wherever a key is printed."""
    assert TOKEN not in repr(KEY)
    assert "4c34a3a7" not in repr(KEY)
