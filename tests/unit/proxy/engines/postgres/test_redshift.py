"""Redshift on the Postgres engine: digest authentication, the returned user, the drivers' parameters, its refusals."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.postgres import auth
from proxy.engines.postgres.causes import likely_causes
from proxy.errors import PeerViolation, Refused
from proxy.model import Outcome, SealedGrant
from proxy.script import CLIENT, UPSTREAM, Now, Reveal
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.postgres.conversation import (
    KEY,
    READY,
    asked,
    asks,
    dials,
    error,
    grant,
    message,
    native,
    opened,
    startup,
)
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason

AT = datetime(2024, 1, 1, tzinfo=UTC)
USER = "IAM:app"
GREETING = (
    asks(0)
    + message(b"S", b"server_version\x008.0.2\0")
    + message(b"S", b"server_protocol_version\x002\0")
    + message(b"K", KEY)
    + READY
)
WAREHOUSE = Endpoint(host="wh.abc123.eu-west-1.redshift.amazonaws.com", port=5439)
VECTOR = bytes.fromhex(
    "640000003900000020a5660d10a3c64aaf7424d9f4b7d962ac863b80b1e7979ddee00e35833a01c24f"
    "0000000d31373034303637323030303030"
)
"""To password `pw`, salt `salt0123`, server nonce 01020304 at 2024-01-01, as Amazon's own driver answers."""


def sealed() -> SealedGrant:
    return grant(user=USER)


def digest_request(
    salt: bytes = b"salt0123", nonce: bytes = b"\1\2\3\4", algorithm: int = 0, behind: bytes = b""
) -> bytes:
    fields = struct.pack("!II", algorithm, len(salt)) + salt + struct.pack("!I", len(nonce)) + nonce
    return asks(13, fields + behind)


def reaches_redshift(*parameters: tuple[str, str]) -> Playbook[Outcome]:
    """A client logs in as `app`; what goes upstream has the user that the API returned."""
    rest = (("database", "shop"), *parameters)
    book = opened().client(startup(("user", "app"), *rest)).expect(asked(), sealed())
    return dials(book).sends(UPSTREAM, startup(("user", USER), *rest))


def test_digest_authentication_gives_the_vectors_answer() -> None:
    book = reaches_redshift().upstream(digest_request()).expect(Now(), AT).expect(Reveal(sealed()), "pw")
    book.sends(UPSTREAM, VECTOR).upstream(GREETING).sends(CLIENT, GREETING).returns()


def test_the_password_itself_is_not_in_the_answer() -> None:
    book = reaches_redshift().upstream(digest_request()).expect(Now(), AT).expect(Reveal(sealed()), "a-password")
    assert b"a-password" not in book.sent(UPSTREAM)


@given(password=st.text(), salt=st.binary(min_size=1, max_size=256), nonce=st.binary(min_size=1, max_size=256))
def test_any_digest_within_the_bounds_is_answered_as_the_driver_would(password: str, salt: bytes, nonce: bytes) -> None:
    if "\ud800" <= max(password, default="") <= "\udfff":
        return
    book = reaches_redshift().upstream(digest_request(salt, nonce)).expect(Now(), AT)
    book.expect(Reveal(sealed()), password)
    theirs = b"1704067200000"
    inner = hashlib.sha256(password.encode() + salt).digest()
    expected = hashlib.sha256(inner + nonce + theirs).digest()
    book.sends(UPSTREAM, message(b"d", struct.pack("!I", 32) + expected + struct.pack("!I", 13) + theirs))


@pytest.mark.parametrize(
    "request_",
    [
        digest_request(salt=b""),
        digest_request(nonce=b""),
        digest_request(salt=b"s" * (auth.DIGEST_FIELD_LIMIT + 1)),
        digest_request(nonce=b"n" * (auth.DIGEST_FIELD_LIMIT + 1)),
        digest_request(behind=b"more"),
        asks(13),
        asks(13, struct.pack("!I", 0)),
        asks(13, struct.pack("!II", 0, 0xFFFFFFFF) + b"salt"),
        asks(13, struct.pack("!II", 0, 8) + b"salt"),
    ],
    ids=["no salt", "no nonce", "long salt", "long nonce", "more behind", "empty", "cut", "negative", "short"],
)
def test_a_hostile_digest_request_gets_no_password(request_: bytes) -> None:
    book = reaches_redshift().upstream(request_)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_digest_request_too_long_for_its_phase_is_not_read() -> None:
    book = reaches_redshift().upstream(b"R" + struct.pack("!I", 2**31 - 1))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("algorithm", [1, 2, 0xFFFFFFFF])
def test_a_digest_algorithm_nobody_knows_is_refused_by_number(algorithm: int) -> None:
    book = reaches_redshift().upstream(digest_request(algorithm=algorithm))
    said = native(book.sent(CLIENT))
    assert f"digest algorithm {algorithm}" in said["M"]
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


def test_a_second_digest_is_not_given() -> None:
    """One password, one nonce: a server cannot collect answers."""
    book = reaches_redshift().upstream(digest_request()).expect(Now(), AT).expect(Reveal(sealed()), "pw")
    book.sends(UPSTREAM, VECTOR).upstream(digest_request())
    assert "second proof" in native(book.sent(CLIENT))["M"]
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_token_of_an_identity_provider_is_refused_and_the_way_out_said() -> None:
    book = reaches_redshift().upstream(asks(14))
    said = native(book.sent(CLIENT))
    assert "an identity provider's token (authentication code 14)" in said["M"]
    assert "not of its identity provider" in said["M"]
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


def test_what_the_aws_drivers_say_about_themselves_goes_on_unchanged() -> None:
    """In their order, with the returned user in front; and what the server says of itself comes back unchanged."""
    parameters = (
        ("application_name", "report"),
        ("client_protocol_version", "2"),
        ("driver_version", "Redshift Python Driver 2.2.0"),
        ("os_version", "Linux-6.1-x86_64"),
        ("driver_discovery_version", "1"),
        ("plugin_name", "IdpTokenAuthPlugin"),
        ("idp_type", "AzureAD"),
        ("provider_name", "x"),
    )
    book = reaches_redshift(*parameters).upstream(asks(3)).expect(Reveal(sealed()), "pw")
    book.sends(UPSTREAM, message(b"p", b"pw\0")).upstream(GREETING).sends(CLIENT, GREETING).returns()


def test_a_rejected_credential_of_redshift_is_explained_in_redshifts_terms() -> None:
    rejected = error("28000", 'password authentication failed for user "IAM:app"')
    book = reaches_redshift().upstream(digest_request()).expect(Now(), AT).expect(Reveal(sealed()), "pw")
    book.sends(UPSTREAM, VECTOR).upstream(rejected)
    again = grant(2, user=USER)
    book.expect(asked(rejected="cred-1"), again)
    dials(book).sends(UPSTREAM, startup(("user", USER), ("database", "shop")))
    book.upstream(asks(3)).expect(Reveal(again), "pw").sends(UPSTREAM, message(b"p", b"pw\0")).upstream(rejected)
    said = native(book.sent(CLIENT))["M"]
    assert 'CREATE USER "app" PASSWORD DISABLE' in said
    assert "rds_iam" not in said


@pytest.mark.parametrize(
    ("user", "host", "cause"),
    [
        ("app", "orders.abc.eu-west-1.rds.amazonaws.com", "GRANT rds_iam"),
        ("app", "orders.proxy-abc.eu-west-1.rds.amazonaws.com", "dbuser:prx-ID/app"),
        ("app", "orders.endpoint.proxy-abc.eu-west-1.rds.amazonaws.com", "has no secret for user 'app'"),
        ("IAM:app", WAREHOUSE.host, 'CREATE USER "app"'),
        ("IAMA:app", "private.example", 'CREATE USER "app"'),
        ("IAMR:analyst", "wg.222222222222.eu-west-1.redshift-serverless.amazonaws.com", "workgroup"),
        ("admin", "abc.dsql.eu-west-1.on.aws", "dsql:DbConnectAdmin"),
        ("app", "abc.dsql.eu-west-1.on.aws", "AWS IAM GRANT"),
        ('o"x', "db.example", 'GRANT rds_iam TO "o""x"'),
    ],
)
def test_the_causes_are_those_of_the_product(user: str, host: str, cause: str) -> None:
    said = likely_causes(user, Endpoint(host=host, port=5439))
    assert cause in said
    assert said.count("the likely causes are: ") == 1


def test_the_digest_parser_raises_violations_and_nothing_else() -> None:
    """Also where a field is cut inside its length."""
    whole = digest_request()[5:]
    for end in range(4, len(whole)):
        book = reaches_redshift().upstream(message(b"R", whole[:end]))
        assert native(book.sent(CLIENT))["C"] == "08P01"
        assert book.raises(Refused).__cause__.__class__ is PeerViolation
