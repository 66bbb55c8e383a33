"""The broker alone against the products the sandbox plays: what it issues gets in, whatever the proxy speaks yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.sandbox import topology
from deploy.sandbox.bridge import TRUST_DOMAIN, Bridge, Document
from deploy.sandbox.world import World
from tollbridge.client import Client, Identity, RpcFailed
from tollbridge.model import Grant
from tollbridge.reasons import Reason

CACHES = (topology.CACHE.name, topology.SERVERLESS_CACHE.name, topology.MEMORYDB.name)
CLUSTER, WORKGROUP = topology.REDSHIFT.name, topology.REDSHIFT_SERVERLESS.name
ROLE = "role/DatabaseUserRole"
ISSUED: set[str] = set()
"""Every password of this file."""


@pytest.fixture(scope="module")
def bridge(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A broker that knows every database of the world, and lets the workload be anybody; no proxy."""

    def everything(document: Document) -> None:
        document["db_service"]["databases"] = [
            {
                "name": database.name,
                "protocol": database.protocol,
                "uri": database.endpoint,
                "static_labels": {"env": "all"},
                "aws": {"assume_role_arn": database.role_arn, "external_id": database.external_id},
            }
            for database in whole_world.databases
            if database.role_arn
        ]
        rule = {"workloads": [f"{TRUST_DOMAIN}/ns/shop/*"], "db_labels": {"*": ["*"]}, "db_users": ["*"]}
        document["access"]["rules"] = [{"name": "anybody", **rule}]

    bridge = Bridge(whole_world, tmp_path_factory.mktemp("issuers"), change_broker=everything)
    bridge.broker.start()
    yield bridge
    bridge.down()
    written = "".join(file.read_text() for file in bridge.directory.iterdir() if file.suffix in (".log", ".jsonl"))
    assert '"allowed":true' in written
    assert not [secret for secret in ISSUED if secret in written], "no credential is in what the broker writes"


@pytest.fixture
async def broker(bridge: Bridge) -> AsyncIterator[Client]:
    """A client with the workload's own certificate."""
    certificate, key, ca = (Path(bridge.file(name)) for name in ("client.crt", "client.key", "mesh-ca.crt"))
    identity = Identity(cert_file=certificate, key_file=key, ca_file=ca)
    async with Client(f"localhost:{bridge.ports['broker']}", identity) as client:
        yield client


async def issue(broker: Client, name: str, db_user: str, db_name: str = "") -> Grant:
    """A grant, whose password is looked for in the end."""
    grant = await broker.issue_credential(name, db_user, db_name)
    ISSUED.add(grant.token.password.reveal())
    return grant


def who_am_i(world: World, name: str, grant: Grant) -> str:
    """Who a cache says came in. Raises redis.AuthenticationError."""
    client = redis.Redis(
        host="127.0.0.1",
        port=world.database(name).local_port,
        username=grant.token.user,
        password=grant.token.password.reveal(),
        ssl=True,
        ssl_ca_certs=world.ca_cert_file,
        ssl_check_hostname=False,  # it is dialled by address here
        retry=Retry(NoBackoff(), 0),
    )
    with client:
        return str(client.acl_whoami())


def current_user(world: World, name: str, grant: Grant) -> str:
    """Who a warehouse says came in. Raises psycopg.OperationalError."""
    database = world.database(name)
    with psycopg.connect(
        host=database.host,
        hostaddr="127.0.0.1",
        port=database.local_port,
        user=grant.token.user,
        password=grant.token.password.reveal(),
        dbname="app",
        sslmode="verify-full",
        sslrootcert=world.ca_cert_file,
    ) as connection:
        row = connection.execute("select session_user").fetchone()
    return str(row[0]) if row else ""


@pytest.mark.parametrize("name", CACHES)
async def test_a_cache_takes_the_token(whole_world: World, broker: Client, name: str) -> None:
    """Replication group, serverless cache, MemoryDB cluster: each by its own service and parameters."""
    assert who_am_i(whole_world, name, await issue(broker, name, "app")) == "app"


async def test_no_cache_takes_the_token_of_another(whole_world: World, broker: Client) -> None:
    """A token names its cache."""
    grants = {name: await issue(broker, name, "app") for name in CACHES}
    for name in CACHES:
        for other in set(CACHES) - {name}:
            with pytest.raises(redis.AuthenticationError, match="invalid"):
                who_am_i(whole_world, other, grants[name])


@pytest.mark.parametrize("name", CACHES)
async def test_a_refused_token_names_the_permission(whole_world: World, broker: Client, name: str) -> None:
    """The cache only says WRONGPASS; the broker knows the session is alive and lists what is left."""
    grant = await issue(broker, name, "stranger")
    with pytest.raises(redis.AuthenticationError, match="invalid"):
        who_am_i(whole_world, name, grant)
    with pytest.raises(RpcFailed) as caught:
        await broker.issue_credential(name, "stranger", rejected=grant.credential_id)
    assert caught.value.reason is Reason.DATABASE_REFUSED
    assert ':Connect","Resource":[' in caught.value.message
    assert "stranger" in caught.value.message


@pytest.mark.parametrize(
    ("name", "db_user", "logged_in"),
    [
        (CLUSTER, "app", "IAM:app"),
        (CLUSTER, ROLE, "IAMR:DatabaseUserRole"),
        (CLUSTER, topology.DATABASE_USER_ROLE_ARN, "IAMR:DatabaseUserRole"),
        (WORKGROUP, "DatabaseUserRole", "IAMR:DatabaseUserRole"),
        (WORKGROUP, ROLE, "IAMR:DatabaseUserRole"),
    ],
)
async def test_a_warehouse_takes_the_password(
    whole_world: World, broker: Client, name: str, db_user: str, logged_in: str
) -> None:
    """Under the name that AWS returned."""
    grant = await issue(broker, name, db_user, "app")
    assert grant.token.user == logged_in
    assert current_user(whole_world, name, grant).startswith(logged_in)


@pytest.mark.parametrize(
    ("name", "db_user", "action"),
    [
        (CLUSTER, "nobody-may", "redshift:GetClusterCredentials"),
        (CLUSTER, "role/PowerlessUserRole", "redshift:GetClusterCredentialsWithIAM"),
        (WORKGROUP, "PowerlessUserRole", "redshift-serverless:GetCredentials"),
    ],
)
async def test_a_call_that_aws_denies_names_the_permission(
    broker: Client, name: str, db_user: str, action: str
) -> None:
    """Of whoever made the call: the account's role, or the role that is the user."""
    with pytest.raises(RpcFailed) as caught:
        await broker.issue_credential(name, db_user, "app")
    assert caught.value.reason is Reason.CREDENTIAL_DENIED
    assert f'"Action":"{action}"' in caught.value.message


async def test_a_user_that_is_not_there_is_found_out_by_the_login_alone(whole_world: World, broker: Client) -> None:
    """AWS makes a password for it all the same."""
    grant = await issue(broker, CLUSTER, "missing", "app")
    with pytest.raises(psycopg.OperationalError):
        current_user(whole_world, CLUSTER, grant)
    with pytest.raises(RpcFailed) as caught:
        await broker.issue_credential(CLUSTER, "missing", "app", rejected=grant.credential_id)
    assert caught.value.reason is Reason.DATABASE_REFUSED
    assert 'CREATE USER "missing" PASSWORD DISABLE' in caught.value.message
