"""Derived keys and signed challenges: right to the last bit, good for the days they name, and never the secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker.errors import BrokerError
from broker.issuers.challenge import ChallengeIssuer, sign, sts_host
from broker.issuers.presign import DerivedKeys, Signer
from broker.issuers.signing import SigningKeyIssuer, dates
from broker.model import AccountSession, ChainKey
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database, request
from tollbridge.model import Challenge, Product, Protocol, SigningKey, StsChallenge
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

KEY = ChainKey(partition="aws", sts_region="us-east-1")
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/specials=="
NONCE = bytes(range(32)) + bytes(range(0x64, 0x84))
ROLE_SESSION = "arn:aws:sts::222222222222:assumed-role/reader/w"


def session(expires_at: datetime | None) -> AccountSession:
    return AccountSession(
        access_key_id="ASIAIOSFODNN7EXAMPLE",
        secret_key=Secret(SECRET_KEY),
        session_token=Secret(TOKEN),
        arn=ROLE_SESSION,
        account_id="222222222222",
        issued_at=datetime(2026, 1, 15, 11, tzinfo=UTC),
        expires_at=expires_at,
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def signing(clock: FakeClock) -> SigningKeyIssuer:
    return SigningKeyIssuer(now=clock.now, broker_name="tollbridge", keys=DerivedKeys())


async def issue(now: str, until: str, product: Product = Product.DYNAMODB) -> SigningKey:
    clock = FakeClock(at(now))
    made = await signing(clock).issue(
        database(product=product, protocol=Protocol.DYNAMODB), request(db_user="reader"), KEY, session(at(until))
    )
    assert made.expires_at == at(until)
    assert isinstance(made.credential, SigningKey)
    return made.credential


async def test_the_key_is_the_one_that_aws_derives() -> None:
    """The known answer for dynamodb in us-west-1 on that day."""
    key = await issue("2026-01-15T12:00", "2026-01-15T13:00")
    assert (key.access_key_id, key.region, key.service) == ("ASIAIOSFODNN7EXAMPLE", "us-west-1", "dynamodb")
    assert list(key.keys) == ["20260115"]
    derived = key.key_of("20260115")
    assert derived is not None
    assert derived.hex() == "f3c26c409a6547153fd145f006653871398222a2389710f3c8fff9242a51cd51"
    assert key.key_of("20260116") is None


@pytest.mark.parametrize(
    ("now", "until", "expected"),
    [
        ("2026-01-15T12:00", "2026-01-15T13:00", ["20260115"]),
        ("2026-01-15T22:50", "2026-01-15T23:50", ["20260115", "20260116"]),
        ("2026-01-15T00:10", "2026-01-15T01:10", ["20260114", "20260115"]),
        ("2026-01-15T23:59", "2026-01-16T00:59", ["20260115", "20260116"]),
        ("2026-12-31T12:00", "2027-01-01T00:00", ["20261231", "20270101"]),
    ],
)
async def test_every_day_of_its_life_has_a_key_with_a_margin(now: str, until: str, expected: list[str]) -> None:
    """A signer whose clock is some minutes off around midnight finds its day."""
    assert list((await issue(now, until)).keys) == expected


@pytest.mark.parametrize(
    ("product", "service"),
    [
        (Product.DYNAMODB, "dynamodb"),
        (Product.OPENSEARCH, "es"),
        (Product.OPENSEARCH_SERVERLESS, "aoss"),
        (Product.KEYSPACES, "cassandra"),
    ],
)
async def test_each_service_has_its_own_key(product: Product, service: str) -> None:
    key = await issue("2026-01-15T12:00", "2026-01-15T13:00", product)
    assert key.service == service
    assert SECRET_KEY not in repr(key)
    assert TOKEN not in repr(key)
    assert not [value for value in key.keys.values() if value.reveal() in repr(key)]


async def test_keys_without_an_end_are_nobodys_to_hand_out() -> None:
    clock = FakeClock()
    with pytest.raises(BrokerError) as caught:
        await signing(clock).issue(database(product=Product.DYNAMODB), request(db_user="reader"), KEY, session(None))
    assert caught.value.reason is Reason.INTERNAL


def test_a_refused_signature_names_the_statement_that_may_be_missing() -> None:
    clock = FakeClock()
    told = signing(clock).why_refused(
        database(product=Product.OPENSEARCH, host="search-movies-abc.us-west-1.es.amazonaws.com"),
        request(),
        session(clock.now()),
    )
    assert '"es:ESHttp*"' in told
    assert "arn:aws:es:us-west-1:222222222222:domain/movies/*" in told
    assert "fine-grained access control" in told


def test_dates_are_utc_days() -> None:
    assert dates(at("2026-01-15T23:59"), at("2026-01-17T00:00")) == ["20260115", "20260116", "20260117"]


@pytest.mark.parametrize(
    ("host", "region", "token", "signature"),
    [
        ("sts.amazonaws.com", "us-east-1", TOKEN, "ad690a223cba577f1d9fe0c312d18594e9d0645825345e3ba78478231d76f92d"),
        (
            "sts.us-west-1.amazonaws.com", "us-west-1", TOKEN,
            "72b5b82a8297a27ae224896fe99918236b3f3ec67338c96eb9b3e1048487184a",
        ),
        (
            "sts.cn-north-1.amazonaws.com.cn", "cn-north-1", TOKEN,
            "2082bfe4f5dca0cf4a93325dcfff354f63049ac0e514cfd6ca96a7b0a6333a5c",
        ),
    ],
)  # fmt: skip
def test_a_proof_is_signed_as_drivers_sign_it(host: str, region: str, token: str, signature: str) -> None:
    """Known answers of two independent signers."""
    signer = Signer(access_key_id="ASIAIOSFODNN7EXAMPLE", secret_key=Secret(SECRET_KEY), session_token=Secret(token))
    proof = sign(signer, DerivedKeys(), StsChallenge(nonce=NONCE, host=host), region=region, at=at("2026-01-15T12:00"))
    assert proof.date == "20260115T120000Z"
    assert proof.authorization.reveal().endswith(f"Signature={signature}")
    assert proof.session_token.reveal() == token


def test_a_session_without_a_token_signs_without_one() -> None:
    signer = Signer(access_key_id="AKIAIOSFODNN7EXAMPLE", secret_key=Secret(SECRET_KEY), session_token=Secret(""))
    challenge = StsChallenge(nonce=NONCE, host="sts.us-west-1.amazonaws.com")
    proof = sign(signer, DerivedKeys(), challenge, region="us-west-1", at=at("2026-01-15T12:00"))
    wanted = "04c76feb4d439b83311eb76113aaa79ff3952ae5d484307ddbc2a23b31547929"
    assert proof.authorization.reveal().endswith(f"Signature={wanted}")


def provers(clock: FakeClock) -> ChallengeIssuer:
    return ChallengeIssuer(now=clock.now, broker_name="tollbridge", keys=DerivedKeys())


async def test_what_is_handed_out_for_docdb_is_no_secret() -> None:
    clock = FakeClock()
    docdb = database(product=Product.DOCDB, protocol=Protocol.MONGODB)
    made = await provers(clock).issue(docdb, request(), KEY, session(clock.now() + timedelta(hours=1)))
    assert made.credential == Challenge(host="sts.us-west-1.amazonaws.com")
    with pytest.raises(TypeError):
        _ = made.token


@pytest.mark.parametrize(
    ("nonce", "host", "said"),
    [
        (NONCE, "sts.evil.example", "sts.evil.example"),
        (NONCE, "sts.us-east-1.amazonaws.com", "another region"),
        (NONCE, "sts.amazonaws.com", "only sts.us-west-1.amazonaws.com"),
        (NONCE, "", "only sts.us-west-1"),
        (NONCE, "sts.us-west-1.amazonaws.com\nhost:evil", "only sts.us-west-1"),
        (NONCE[:63], "sts.us-west-1.amazonaws.com", "63 bytes"),
        (b"", "sts.us-west-1.amazonaws.com", "0 bytes"),
    ],
)
def test_no_proof_for_anybody_elses_sts(nonce: bytes, host: str, said: str) -> None:
    """The server chooses what is signed: it may choose one thing only."""
    clock = FakeClock()
    docdb = database(product=Product.DOCDB, protocol=Protocol.MONGODB)
    with pytest.raises(BrokerError) as caught:
        provers(clock).prove(docdb, session(clock.now()), StsChallenge(nonce=nonce, host=host))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert said in caught.value.message


def test_the_sts_host_follows_the_partition() -> None:
    assert sts_host(database(partition="aws-cn")) == "sts.us-west-1.amazonaws.com.cn"
    assert sts_host(database(partition="aws-us-gov")) == "sts.us-west-1.amazonaws.com"
