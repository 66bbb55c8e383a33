"""The sandbox's Keyspaces as its own clients see it: without a proxy or broker, signed by AWS's plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import boto3
import pytest
from cassandra import AuthenticationFailed, Unauthorized
from cassandra.auth import AuthProvider, PlainTextAuthProvider
from cassandra.cluster import NoHostAvailable, Session
from cassandra_sigv4.auth import SigV4AuthProvider

from deploy.sandbox import topology
from deploy.sandbox.accounts import Accounts, trust_policy
from deploy.sandbox.control import Control
from deploy.sandbox.world import World
from tests.e2e.cql import Neighbours, connected
from tests.e2e.roles import Role

OTHER_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="module")
def example(nosql_world: World) -> Role:
    """The role that may assume the users' roles."""
    return Role.assume(nosql_world, topology.EXAMPLE_ROLE_ARN)


@pytest.fixture(scope="module")
def user(nosql_world: World, example: Role) -> Role:
    """A role that may do everything in the account's keyspaces."""
    return Role.assume(nosql_world, topology.DATABASE_USER_ROLE_ARN, via=example)


@pytest.fixture
def control(nosql_world: World) -> Iterator[Control]:
    """Of this world."""
    control = Control(nosql_world.aws_endpoint)
    control.forget_logins()
    yield control
    control.shift_clock(0)


def ask(world: World, auth: AuthProvider | None, then: Callable[[Session], object] = lambda _session: None) -> None:
    """Log in directly, and do something."""
    database = world.database(topology.KEYSPACES.name)
    with connected(
        database.local_port, auth=auth, ca_file=world.ca_cert_file, name=database.host, version=4
    ) as session:
        then(session)


def refused(world: World, auth: AuthProvider | None) -> str:
    """What a server that lets nobody in says, bad credentials (0x0100) in the driver's words."""
    with pytest.raises(NoHostAvailable) as caught:
        ask(world, auth)
    (error,) = caught.value.errors.values()
    assert isinstance(error, AuthenticationFailed)
    return str(error)


def test_a_role_enters_by_a_signature_and_does_what_its_policies_allow(nosql_world: World, example: Role) -> None:
    def count(session: Session) -> None:
        assert session.execute("SELECT count(*) FROM shop.orders").one()[0] >= 3

    def write(session: Session) -> None:
        session.execute("INSERT INTO shop.orders (id, customer) VALUES (4, 'Barbara')")
        session.execute("DELETE FROM shop.orders WHERE id = 4")

    def refusal(statement: str) -> Callable[[Session], None]:
        def asks(session: Session) -> None:
            with pytest.raises(Unauthorized, match="assumed-role"):
                session.execute(statement)

        return asks

    roles = {
        name: SigV4AuthProvider(Role.assume(nosql_world, arn, via=example).session)
        for name, arn in (
            ("user", topology.DATABASE_USER_ROLE_ARN),
            ("reader", topology.READER_ROLE_ARN),
            ("powerless", topology.POWERLESS_USER_ROLE_ARN),
        )
    }
    ask(nosql_world, roles["user"], write)
    ask(nosql_world, roles["user"], count)
    ask(nosql_world, roles["reader"], count)
    ask(nosql_world, roles["reader"], refusal("DELETE FROM shop.orders WHERE id = 1"))
    ask(nosql_world, roles["powerless"], refusal("SELECT * FROM shop.orders"))


def test_the_log_says_who_came(nosql_world: World, user: Role, control: Control) -> None:
    ask(nosql_world, SigV4AuthProvider(user.session))
    login = control.logins()[-1]
    assert (login.database, login.ok) == ("keyspaces", True)
    assert login.db_user == "arn:aws:sts::222222222222:assumed-role/DatabaseUserRole/sandbox-test"
    assert login.access_key_id == user.session.get_credentials().access_key


def test_nobody_else_enters(nosql_world: World, user: Role, control: Control) -> None:
    mine = user.session.get_credentials()

    def signed(
        key: str = mine.access_key, secret: str = mine.secret_key, token: str = mine.token, region: str = "us-west-1"
    ) -> SigV4AuthProvider:
        return SigV4AuthProvider(boto3.session.Session(key, secret, token, region_name=region))

    refusals = {
        "another secret": (signed(secret=OTHER_SECRET), "SignatureDoesNotMatch"),
        "another region": (signed(region="us-east-1"), "SignatureDoesNotMatch"),
        "no token": (signed(token=""), "InvalidCredentials"),
        "another token": (signed(token=mine.token[:-8] + "AAAAAAA="), "InvalidCredentials"),
        "no such key": (signed(key="ASIAIOSFODNN7EXAMPLE"), "InvalidCredentials"),
        "a user's own key": (
            signed(nosql_world.broker_access_key_id, nosql_world.broker_secret_access_key, ""),
            "InvalidCredentials",
        ),
    }
    for name, (auth, why) in refusals.items():
        assert "0100" in refused(nosql_world, auth), name
        assert control.logins()[-1].why == why, name
    for auth in (None, PlainTextAuthProvider("serviceuser", "wrong"), PlainTextAuthProvider("", "")):
        if auth is not None:
            assert "0100" in refused(nosql_world, auth)
    with pytest.raises(NoHostAvailable, match="requires authentication"):
        ask(nosql_world, None)


def test_a_proof_is_good_for_fifteen_minutes_before_and_after(nosql_world: World, user: Role, control: Control) -> None:
    auth = SigV4AuthProvider(user.session)
    for seconds in (-890, 890):
        control.shift_clock(seconds)
        ask(nosql_world, auth)
    for seconds in (-910, 910):
        control.shift_clock(seconds)
        assert "0100" in refused(nosql_world, auth)
        assert control.logins()[-1].why == "RequestTimeTooSkewed"


def test_sessions_that_are_over_and_roles_that_are_gone_enter_no_more(
    nosql_world: World, example: Role, control: Control
) -> None:
    accounts = Accounts(nosql_world.aws_endpoint)
    arn = topology.TEST_ROLES_ARN.replace("test-*", "test-keyspaces")
    accounts.create_role(arn, trust=trust_policy(topology.EXAMPLE_ROLE_ARN))
    accounts.put_role_policy(topology.EXAMPLE_ROLE_ARN, "tests", _may_assume(arn))
    try:
        over = SigV4AuthProvider(Role.assume(nosql_world, arn, via=example).session)
        gone = SigV4AuthProvider(Role.assume(nosql_world, arn, via=example).session)
        ask(nosql_world, over)
        control.expire_session(access_key_id=over.session.get_credentials().access_key)
        assert "0100" in refused(nosql_world, over)
        assert control.logins()[-1].why == "SessionExpired"
        accounts.recreate_role(arn)
        assert "0100" in refused(nosql_world, gone)
        assert control.logins()[-1].why == "RoleGone"
    finally:
        accounts.delete_role(arn)
        accounts.remove_role_policy(topology.EXAMPLE_ROLE_ARN, "tests")


def _may_assume(arn: str) -> dict[str, object]:
    statement = {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": arn}
    return {"Version": "2012-10-17", "Statement": [statement]}


def test_a_driver_that_asks_directly_goes_to_every_neighbour_it_is_told_of(nosql_world: World, user: Role) -> None:
    """What a proxy has to prevent, and what tests of it can see."""
    with Neighbours(nosql_world.database(topology.KEYSPACES.name).local_port) as neighbours:
        ask(
            nosql_world,
            SigV4AuthProvider(user.session),
            lambda session: session.execute("SELECT now() FROM system.local"),
        )
        assert len(set(neighbours.visitors)) == 9
