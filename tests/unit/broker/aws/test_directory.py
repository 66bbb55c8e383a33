"""Describe calls through the SDK: every page or none, one resource's tags, refusals with what is missing."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from broker.audit import CallCounters
from broker.aws.clients import SkewMeter
from broker.aws.directory import BotoDirectory
from broker.discovery.model import Change, Listing, Target
from broker.discovery.observers.opensearch import DOMAINS
from broker.discovery.observers.rds import INSTANCES, PROXY_TAGS
from broker.discovery.observers.redshift import SERVERLESS_TAGS
from broker.errors import BrokerError
from broker.model import AccountSession
from broker.policies.statements import Place
from broker.sessions.errors import SessionGone
from tests.support.clock import FakeClock
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

PLACE = Place(partition="aws", region="us-west-1", account_id="222222222222")
ARN = "arn:aws:rds:us-west-1:222222222222:db:orders"
Answer = tuple[int, str, str]


@dataclass
class Service:
    """Answers each call by a function of what was asked."""

    answer: Callable[[dict[str, Any]], Answer] = lambda _: (500, "text/plain", "")
    asked: list[dict[str, Any]] = field(default_factory=list)


def xml(action: str, inner: str) -> Answer:
    return 200, "text/xml", f"<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>"


def refused(status: int, code: str) -> Answer:
    return status, "text/xml", f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"


def page(names: list[str], marker: str = "") -> Answer:
    items = "".join(f"<DBInstance><DBInstanceIdentifier>{name}</DBInstanceIdentifier></DBInstance>" for name in names)
    return xml("DescribeDBInstances", f"<DBInstances>{items}</DBInstances><Marker>{marker}</Marker>")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def answer(self, asked: dict[str, Any]) -> None:
            made.asked.append(asked)
            status, kind, text = made.answer(asked)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self.answer({"path": self.path})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if "json" in self.headers["Content-Type"]:
                self.answer({"path": self.path, **json.loads(body)})
            else:
                self.answer({key: values[0] for key, values in parse_qs(body).items()})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "*")
    for name in ("RDS", "OPENSEARCH", "REDSHIFT_SERVERLESS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def directory(service: Service) -> AsyncIterator[BotoDirectory]:
    clock = FakeClock(datetime.now(UTC))

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    made = BotoDirectory(clock=clock, counters=CallCounters(), skew=SkewMeter(), workers=2, sleep=sleep)
    yield made
    made.close()


@pytest.fixture
def session() -> AccountSession:
    return AccountSession(
        access_key_id="ASIAEXAMPLE",
        secret_key=Secret("secret"),
        session_token=Secret("token"),
        arn="arn:aws:sts::222222222222:assumed-role/example-role/tollbridge-broker",
        account_id="222222222222",
        issued_at=datetime.now(UTC),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )


async def test_pages_are_followed_to_the_end_however_many(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    def answer(asked: dict[str, Any]) -> Answer:
        number = int(asked.get("Marker", "0"))
        return page([f"db-{number}"], str(number + 1) if number < 24 else "")

    service.answer = answer
    items = await directory.items(session, PLACE, INSTANCES)
    assert [item["DBInstanceIdentifier"] for item in items] == [f"db-{number}" for number in range(25)]
    assert directory.calls() == 25


async def test_pages_that_go_in_a_circle_are_a_failure_and_not_a_part(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    service.answer = lambda asked: page(["x"], "b" if asked.get("Marker") == "a" else "a")
    with pytest.raises(BrokerError, match="does not come to an end") as raised:
        await directory.items(session, PLACE, INSTANCES)
    assert raised.value.reason is Reason.AWS_UNAVAILABLE


async def test_a_page_that_fails_fails_the_list(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    service.answer = lambda asked: refused(403, "AccessDenied") if "Marker" in asked else page(["x"], "more")
    with pytest.raises(BrokerError):
        await directory.items(session, PLACE, INSTANCES)


async def test_a_refusal_names_the_statement(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    service.answer = lambda _: refused(403, "AccessDenied")
    with pytest.raises(BrokerError) as raised:
        await directory.items(session, PLACE, INSTANCES)
    assert raised.value.reason is Reason.CREDENTIAL_DENIED
    assert '{"Effect":"Allow","Action":"rds:DescribeDBInstances","Resource":"*"}' in raised.value.message
    assert session.arn in raised.value.message


@pytest.mark.parametrize(
    ("status", "code", "reason", "attempts"),
    [
        (400, "Throttling", Reason.AWS_THROTTLED, 3),
        (500, "InternalFailure", Reason.AWS_UNAVAILABLE, 3),
        (404, "DBInstanceNotFound", Reason.CREDENTIAL_INVALID, 1),
    ],
)
async def test_what_may_pass_is_tried_again_and_nothing_else(
    service: Service,
    directory: BotoDirectory,
    session: AccountSession,
    status: int,
    code: str,
    reason: Reason,
    attempts: int,
) -> None:
    service.answer = lambda _: refused(status, code)
    with pytest.raises(BrokerError) as raised:
        await directory.items(session, PLACE, INSTANCES)
    assert (raised.value.reason, directory.calls()) == (reason, attempts)
    assert raised.value.metadata["aws_code"] == code


async def test_a_session_that_aws_no_longer_knows_is_told_apart(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    service.answer = lambda _: refused(403, "InvalidClientTokenId")
    with pytest.raises(SessionGone):
        await directory.items(session, PLACE, INSTANCES)


async def test_domains_are_described_five_at_a_time(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    def answer(asked: dict[str, Any]) -> Answer:
        if asked["path"].startswith("/2021-01-01/domain"):
            names = [{"DomainName": f"logs-{number:02d}"} for number in range(12)]
            return 200, "application/json", json.dumps({"DomainNames": names})
        described = [{"DomainName": name, "Endpoint": f"{name}.example"} for name in asked["DomainNames"]]
        return 200, "application/json", json.dumps({"DomainStatusList": described})

    service.answer = answer
    items = await directory.items(session, PLACE, DOMAINS)
    assert [item["DomainName"] for item in items] == [f"logs-{number:02d}" for number in range(12)]
    assert [len(asked.get("DomainNames", ())) for asked in service.asked] == [0, 5, 5, 2]


async def test_one_thing_that_was_asked_for_by_name_is_a_list_of_one(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    group = {"workgroupName": "default", "endpoint": {"address": "default.example"}}
    service.answer = lambda _: (200, "application/x-amz-json-1.1", json.dumps({"workgroup": group}))
    asked = Listing(
        service="redshift-serverless",
        operation="GetWorkgroup",
        items="workgroup",
        page="",
        parameters={"workgroupName": "default"},
    )
    assert await directory.items(session, PLACE, asked) == [group]


async def test_tags_are_read_in_either_spelling(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    service.answer = lambda _: xml(
        "ListTagsForResource", "<TagList><Tag><Key>env</Key><Value>dev</Value></Tag></TagList>"
    )
    assert await directory.tags(session, PLACE, PROXY_TAGS, ARN) == {"env": "dev"}
    service.answer = lambda _: (200, "application/x-amz-json-1.1", json.dumps({"tags": [{"key": "a", "value": "b"}]}))
    assert await directory.tags(session, PLACE, SERVERLESS_TAGS, ARN) == {"a": "b"}


ON = "<IAMDatabaseAuthenticationEnabled>true</IAMDatabaseAuthenticationEnabled>"
OFF = "<IAMDatabaseAuthenticationEnabled>false</IAMDatabaseAuthenticationEnabled>"


@pytest.mark.parametrize(
    ("inner", "on"),
    [(ON, True), (OFF, False), (f"{OFF}<PendingModifiedValues>{ON}</PendingModifiedValues>", True)],
)
async def test_iam_authentication_about_to_be_on_counts(
    service: Service, directory: BotoDirectory, session: AccountSession, inner: str, on: bool
) -> None:
    listed = f"<DBInstances><DBInstance>{inner}</DBInstance></DBInstances>"
    service.answer = lambda _: xml("DescribeDBInstances", listed)
    change = Change(target=Target.INSTANCE, identifier="orders", arn=ARN, place=PLACE)
    assert await directory.iam_auth(session, change) is on


async def test_turning_it_on_says_so_and_nothing_else(
    service: Service, directory: BotoDirectory, session: AccountSession
) -> None:
    service.answer = lambda _: xml("ModifyDBInstance", "<DBInstance/>")
    change = Change(target=Target.INSTANCE, identifier="orders", arn=ARN, place=PLACE)
    await directory.turn_iam_auth_on(session, change)
    (asked,) = service.asked
    assert {key: value for key, value in asked.items() if key not in ("Action", "Version")} == {
        "DBInstanceIdentifier": "orders",
        "EnableIAMDatabaseAuthentication": "true",
        "ApplyImmediately": "true",
    }
