from __future__ import annotations

from datetime import timedelta

import pytest

from broker.audit import Counters
from broker.errors import BrokerError
from broker.issuers.caches import CacheIssuer
from broker.issuers.dsql import DsqlIssuer
from broker.issuers.presign import DerivedKeys
from broker.model import AccountSession, ChainKey, RegisteredDatabase
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database, request
from tollbridge.model import Product, Protocol
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

KEY = ChainKey(partition="aws", sts_region="us-east-1")
CACHES = {
    Product.ELASTICACHE: ("elasticache.replication_group_id", "master.shop.abc.usw1.cache.amazonaws.com"),
    Product.ELASTICACHE_SERVERLESS: (
        "elasticache_serverless.cache_name",
        "shop-abc.serverless.usw1.cache.amazonaws.com",
    ),
    Product.MEMORYDB: ("memorydb.cluster_name", "clustercfg.shop.abc.memorydb.us-west-1.amazonaws.com"),
}
DSQL_HOST = "abcdefghijklmnopqrst123456.dsql.us-west-1.on.aws"


def cache(product: Product = Product.ELASTICACHE, name: str = "shop", port: int = 6379) -> RegisteredDatabase:
    key, host = CACHES[product]
    return database(product=product, protocol=Protocol.REDIS, host=host, port=port, ids={key: name} if name else {})


def dsql() -> RegisteredDatabase:
    return database(product=Product.DSQL, host=DSQL_HOST, ids={"dsql.cluster_id": DSQL_HOST.partition(".")[0]})


def session(clock: FakeClock) -> AccountSession:
    return AccountSession(
        access_key_id="ASIAONE",
        secret_key=Secret("secret"),
        session_token=Secret("token"),
        arn="arn:aws:sts::222222222222:assumed-role/access/tollbridge",
        account_id="222222222222",
        issued_at=clock.now(),
        expires_at=clock.now() + timedelta(seconds=3600),
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> CacheIssuer:
    return CacheIssuer(now=clock.now, broker_name="tollbridge", keys=DerivedKeys(), counters=Counters())


@pytest.fixture
def dsql_issuer(clock: FakeClock) -> DsqlIssuer:
    return DsqlIssuer(now=clock.now, broker_name="tollbridge", keys=DerivedKeys(), counters=Counters())


@pytest.mark.parametrize(
    ("product", "service", "serverless"),
    [
        (Product.ELASTICACHE, "elasticache", False),
        (Product.ELASTICACHE_SERVERLESS, "elasticache", True),
        (Product.MEMORYDB, "memorydb", False),
    ],
)
async def test_the_name_is_signed_and_not_the_host(
    issuer: CacheIssuer, clock: FakeClock, product: Product, service: str, serverless: bool
) -> None:
    made = await issuer.issue(cache(product), request(db_user="iam-user"), KEY, session(clock))
    token = made.token.password.reveal()
    assert made.token.user == "iam-user"
    assert token.startswith("shop/?Action=connect&")
    assert f"%2Fus-west-1%2F{service}%2Faws4_request" in token
    assert "User=iam-user&" in token
    assert "DBUser" not in token
    assert ("ResourceType=ServerlessCache" in token) is serverless
    assert made.expires_at - made.issued_at == timedelta(seconds=900)


async def test_all_endpoints_of_a_cache_share_a_token_and_no_two_caches_do(
    issuer: CacheIssuer, clock: FakeClock
) -> None:
    keys = session(clock)
    first = await issuer.issue(cache(), request(), KEY, keys)
    assert await issuer.issue(cache(port=6380), request(workload="another"), KEY, keys) is first
    assert await issuer.issue(cache(name="SHOP"), request(), KEY, keys) is first, "AWS lower-cases names"
    for other in (cache(name="other"), cache(Product.MEMORYDB), cache(Product.ELASTICACHE_SERVERLESS)):
        assert await issuer.issue(other, request(), KEY, keys) is not first
    assert await issuer.issue(cache(), request(db_user="other"), KEY, keys) is not first


@pytest.mark.parametrize("db_user", ["1app", "-app", "app user", "app_user", "app+x", "åpp", "role/app", "app\u200b"])
def test_a_user_that_no_cache_can_have_is_refused_before_any_call(issuer: CacheIssuer, db_user: str) -> None:
    with pytest.raises(BrokerError) as caught:
        issuer.chain(cache(), request(db_user=db_user))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert "begin with a letter" in caught.value.message


def test_a_cache_registered_without_its_name_is_refused_before_any_call(issuer: CacheIssuer) -> None:
    with pytest.raises(BrokerError) as caught:
        issuer.chain(cache(name=""), request())
    assert caught.value.reason is Reason.CREDENTIAL_INVALID
    assert "aws.elasticache.replication_group_id" in caught.value.message


@pytest.mark.parametrize(
    ("product", "statement"),
    [
        (
            Product.ELASTICACHE,
            (
                '{"Effect":"Allow","Action":"elasticache:Connect","Resource":'
                '["arn:aws:elasticache:us-west-1:222222222222:replicationgroup:shop",'
                '"arn:aws:elasticache:us-west-1:222222222222:user:app"]}'
            ),
        ),
        (
            Product.ELASTICACHE_SERVERLESS,
            (
                '["arn:aws:elasticache:us-west-1:222222222222:serverlesscache:shop",'
                '"arn:aws:elasticache:us-west-1:222222222222:user:app"]'
            ),
        ),
        (
            Product.MEMORYDB,
            (
                '{"Effect":"Allow","Action":"memorydb:Connect","Resource":'
                '["arn:aws:memorydb:us-west-1:222222222222:cluster/shop",'
                '"arn:aws:memorydb:us-west-1:222222222222:user/app"]}'
            ),
        ),
    ],
)
def test_a_refusal_names_the_statement_and_the_group(
    issuer: CacheIssuer, clock: FakeClock, product: Product, statement: str
) -> None:
    text = issuer.why_refused(cache(product, name="Shop"), request(), session(clock))
    assert statement in text
    assert ("ACL" if product is Product.MEMORYDB else "user group") in text
    assert "IAM" in text
    assert "\n" not in text, "an error of Redis is one line"


async def test_dsql_has_an_action_of_its_own_for_admin(dsql_issuer: DsqlIssuer, clock: FakeClock) -> None:
    app = await dsql_issuer.issue(dsql(), request(), KEY, session(clock))
    admin = await dsql_issuer.issue(dsql(), request(db_user="admin"), KEY, session(clock))
    assert app.token.password.reveal().startswith(f"{DSQL_HOST}/?Action=DbConnect&X-Amz")
    assert admin.token.password.reveal().startswith(f"{DSQL_HOST}/?Action=DbConnectAdmin&")
    assert admin.token.user == "admin"
    again = await dsql_issuer.issue(dsql(), request(workload="another"), KEY, session(clock))
    assert again is app


def test_a_refusal_of_dsql_names_the_grant_in_the_database(dsql_issuer: DsqlIssuer, clock: FakeClock) -> None:
    text = dsql_issuer.why_refused(dsql(), request(), session(clock))
    assert "AWS IAM GRANT app TO 'arn:aws:iam::222222222222:role/access'" in text
    where = "arn:aws:dsql:us-west-1:222222222222:cluster/abcdefghijklmnopqrst123456"
    assert f'"Action":"dsql:DbConnect","Resource":"{where}"' in text
    admin = dsql_issuer.why_refused(dsql(), request(db_user="admin"), session(clock))
    assert "dsql:DbConnectAdmin" in admin
    assert "AWS IAM GRANT" not in admin
