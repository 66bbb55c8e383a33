from __future__ import annotations

from datetime import timedelta

import pytest

from broker.audit import Counters
from broker.issuers.chain import account_hops
from broker.issuers.presign import DerivedKeys
from broker.issuers.rds import RdsIssuer
from broker.issuers.token_cache import TokenCache, TokenKey
from broker.model import AccountSession, Attribution, ChainKey, IssuedCredential
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import HOST, database, request
from tests.unit.broker.sessions.fakes import ROLE
from tollbridge.model import Product, Protocol, Token
from tollbridge.secret import Secret

KEY = ChainKey(partition="aws", sts_region="us-east-1")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> RdsIssuer:
    return RdsIssuer(now=clock.now, broker_name="tollbridge", keys=DerivedKeys(), counters=Counters())


def session(clock: FakeClock, life: float | None = 3600, key_id: str = "ASIAONE") -> AccountSession:
    return AccountSession(
        access_key_id=key_id,
        secret_key=Secret("secret"),
        session_token=Secret("token"),
        arn="arn:aws:sts::222222222222:assumed-role/access/tollbridge",
        account_id="222222222222",
        issued_at=clock.now(),
        expires_at=None if life is None else clock.now() + timedelta(seconds=life),
    )


async def test_a_token_is_shared_until_a_third_of_its_life_is_left(issuer: RdsIssuer, clock: FakeClock) -> None:
    keys = session(clock)
    first = await issuer.issue(database(), request(), KEY, keys)
    assert first.expires_at - first.issued_at == timedelta(seconds=900)
    clock.advance(599)
    assert await issuer.issue(database(), request(workload="another"), KEY, keys) is first
    clock.advance(2)
    second = await issuer.issue(database(), request(), KEY, keys)
    assert second.credential_id != first.credential_id


@pytest.mark.parametrize(("life", "expected"), [(3600, 900), (900, 900), (120, 120), (None, 900)])
async def test_a_token_lives_no_longer_than_the_session_that_signed_it(
    issuer: RdsIssuer, clock: FakeClock, life: float | None, expected: float
) -> None:
    token = await issuer.issue(database(), request(), KEY, session(clock, life))
    assert (token.expires_at - token.issued_at).total_seconds() == expected
    assert "X-Amz-Expires=900" in token.token.password.reveal()


async def test_a_token_is_shared_by_nobody_else(issuer: RdsIssuer, clock: FakeClock) -> None:
    keys = session(clock)
    first = await issuer.issue(database(), request(), KEY, keys)
    others = [
        await issuer.issue(database(), request(db_user="other"), KEY, keys),
        await issuer.issue(database(port=5433), request(), KEY, keys),
        await issuer.issue(database(), request(), ChainKey(partition="aws", sts_region="eu-west-1"), keys),
        await issuer.issue(database(), request(), KEY, session(clock, key_id="ASIATWO")),
    ]
    assert all(other is not first for other in others)


async def test_the_name_of_a_credential_is_no_secret(issuer: RdsIssuer, clock: FakeClock) -> None:
    token = await issuer.issue(database(), request(), KEY, session(clock))
    assert len(token.credential_id) == 16
    assert token.credential_id not in token.token.password.reveal()
    assert "hidden" in repr(token)


async def test_what_a_dead_session_signed_is_forgotten(issuer: RdsIssuer, clock: FakeClock) -> None:
    keys = session(clock)
    first = await issuer.issue(database(), request(), KEY, keys)
    issuer.forget_session("ASIAOTHER")
    assert await issuer.issue(database(), request(), KEY, keys) is first
    issuer.forget_session(keys.access_key_id)
    assert await issuer.issue(database(), request(), KEY, keys) is not first


def test_the_token_cache_is_bounded() -> None:
    clock = FakeClock()
    cache = TokenCache(now=clock.now, counters=Counters(), capacity=5)
    for number in range(20):
        token = IssuedCredential(
            credential=Token(user="u", password=Secret("p")),
            credential_id=str(number),
            issued_at=clock.now(),
            expires_at=clock.now() + timedelta(seconds=900),
            access_key_id="A",
        )
        key = TokenKey(
            product=Product.RDS, region="r", audience=(HOST,), db_user=str(number), chain=KEY, access_key_id="A"
        )
        cache.put(key, token)
    assert len(cache) == 5


def test_one_hop_for_all_workloads_or_one_each() -> None:
    [shared] = account_hops(database(external_id="x-1"), request(), broker_name="tollbridge")
    assert (shared.role_arn, shared.session_name, shared.tags) == (ROLE, "tollbridge", ())
    assert shared.external_id == Secret("x-1")
    [own] = account_hops(database(attribution=Attribution.WORKLOAD), request(), broker_name="tollbridge")
    assert own.session_name == "example.org,ns,shop,sa,api"
    assert own.tags == (("tollbridge-workload", "spiffe://example.org/ns/shop/sa/api"),)
    assert account_hops(database(role_arn=""), request(), broker_name="tollbridge") == ()


def test_a_refusal_by_an_rds_proxy_names_both_ways_to_set_it_up(issuer: RdsIssuer, clock: FakeClock) -> None:
    facts = database(product=Product.RDSPROXY, ids={}, host="ro.endpoint.proxy-abc.us-west-1.rds.amazonaws.com")
    text = issuer.why_refused(facts, request(), session(clock))
    assert "no Secrets Manager secret for user app (unless its authentication scheme is IAM)" in text
    assert 'IAM authentication is not "required"' in text
    assert "dbuser:<prx- id>/app" in text


async def test_a_custom_endpoint_of_an_rds_proxy_is_what_is_signed(issuer: RdsIssuer, clock: FakeClock) -> None:
    host = "ro.endpoint.proxy-abc.us-west-1.rds.amazonaws.com"
    made = await issuer.issue(database(product=Product.RDSPROXY, host=host), request(), KEY, session(clock))
    assert made.token.password.reveal().startswith(f"{host}:5432/?Action=connect&DBUser=app&")


@pytest.mark.parametrize(
    ("product", "protocol", "words"),
    [
        (Product.RDS, Protocol.POSTGRES, 'GRANT rds_iam TO "app"'),
        (Product.RDS, Protocol.MYSQL, "AWSAuthenticationPlugin"),
        (Product.RDSPROXY, Protocol.POSTGRES, "Secrets Manager secret for user app"),
    ],
)
def test_a_refusal_names_the_fixes(
    issuer: RdsIssuer, clock: FakeClock, product: Product, protocol: Protocol, words: str
) -> None:
    text = issuer.why_refused(database(product=product, protocol=protocol), request(), session(clock))
    assert words in text
    assert "arn:aws:rds-db:us-west-1:222222222222:dbuser:db-ABC/app" in text
    assert '"rds-db:connect"' in text
