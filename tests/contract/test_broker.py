"""The whole broker, built from a configuration file, with a fake STS behind it and real listeners before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from broker.app import build
from broker.audit import Counters
from broker.auditfile import AuditFile
from broker.errors import BrokerError
from broker.model import AccountSession, Hop
from broker.running import Broker
from broker.settings import derive, load
from tests.contract.house import APP, House, eventually
from tests.unit.broker.issuers.fakes import FakeRedshift
from tollbridge.client import Client, PolicyChanged, RpcFailed, Synced, Upsert
from tollbridge.process.lifecycle import SystemClock
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

EXTERNAL_ID = "agreed-0815-with-them"
SECRET_KEY = "secret-key-of-the-session"
SESSION_TOKEN = "IQoJb3JpZ2luX2Vj" + "F" * 900

CONFIG = """
aws: {{region: eu-central-1}}
account_links:
  - {{name: shop, role_arns: [arn:aws:iam::222222222222:role/access], external_id: {external_id}}}
db_service:
  databases:
    - name: orders
      protocol: postgres
      uri: orders.abcdefghijkl.eu-central-1.rds.amazonaws.com:5432
      aws:
        region: eu-central-1
        account_id: "222222222222"
        assume_role_arn: arn:aws:iam::222222222222:role/access
        external_id: {external_id}
      static_labels: {{env: prod}}
access:
  rules:
    - {{name: app, workloads: ["spiffe://td.example/*"], db_labels: {{env: prod}}, db_users: [app]}}
operators: [{{caller: spiffe://td.example/ops}}]
listeners:
  - address: 127.0.0.1:0
    tls: {{cert_file: {folder}/server.crt, key_file: {folder}/server.key, client_ca_file: {folder}/server-ca.crt}}
  - {{address: "unix:{folder}/b.sock", caller: spiffe://td.example/local}}
admin: {{address: 127.0.0.1:0}}
audit: {{file: {folder}/audit.log}}
"""


class FakeSts:
    """AWS as far as the broker sees it."""

    def __init__(self) -> None:
        self.base_error: BrokerError | None = None
        self.assume_error: BrokerError | None = None
        self.assumed: list[Hop] = []

    async def base_session(self) -> AccountSession:
        if self.base_error is not None:
            raise self.base_error
        return _session("AKIABASE", "arn:aws:sts::111111111111:assumed-role/broker/i-1", "111111111111")

    async def assume_role(self, parent: AccountSession, hop: Hop, region: str) -> AccountSession:
        self.assumed.append(hop)
        if self.assume_error is not None:
            raise self.assume_error
        return _session("ASIAACCESS", "arn:aws:sts::222222222222:assumed-role/access/x", "222222222222")

    async def is_alive(self, session: AccountSession, region: str) -> bool:
        return True

    def clock_skew_seconds(self) -> float:
        return 0.0


def _session(key: str, arn: str, account: str) -> AccountSession:
    now = datetime.now(UTC)
    return AccountSession(
        access_key_id=key,
        secret_key=Secret(SECRET_KEY),
        session_token=Secret(SESSION_TOKEN),
        arn=arn,
        account_id=account,
        issued_at=now,
        expires_at=now + timedelta(hours=1),
    )


class Running:
    """A broker and what is behind it."""

    def __init__(self, house: House, broker: Broker, sts: FakeSts) -> None:
        self.house, self.broker, self.sts = house, broker, sts
        self.address = broker.addresses[0].replace("127.0.0.1", "localhost")

    def client(self) -> Client:
        return Client(self.address, self.house.identity(APP))

    async def get(self, path: str) -> tuple[int, str]:
        """From the admin port."""
        host, _colon, port = self.broker.admin_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _blank, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), body

    def audit(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.house.folder / "audit.log").read_text().splitlines()]


@asynccontextmanager
async def running(house: House, sts: FakeSts) -> AsyncIterator[Running]:
    house.write(house.ca, house.ca, "server", "localhost")
    config = house.folder / "broker.yaml"
    config.write_text(CONFIG.format(folder=house.folder, external_id=EXTERNAL_ID))
    settings = load(config).value
    audit = AuditFile(settings.audit.file)
    clock = SystemClock()
    broker = build(
        settings,
        sts=sts,
        redshift=FakeRedshift(clock),
        counters=Counters(),
        clock=clock,
        audit_sink=audit.write,
    )
    async with asyncio.TaskGroup() as group:
        await broker.start()
        work = group.create_task(broker.run())
        try:
            yield Running(house, broker, sts)
        finally:
            await broker.stop(1)
            work.cancel()


@pytest.fixture
def sts() -> FakeSts:
    return FakeSts()


async def test_a_credential_comes_out_with_one_assume_role_and_one_audit_line_each(house: House, sts: FakeSts) -> None:
    async with running(house, sts) as it, it.client() as client:
        (listed,) = await client.list_databases()
        grants = [await client.issue_credential("orders", "app") for _ in range(3)]
        decisions = it.audit()
    assert grants[0].endpoint == listed.endpoint
    assert "X-Amz-Signature" in grants[0].token.password.reveal()
    assert len({grant.credential_id for grant in grants}) == 1
    assert [(hop.role_arn, hop.external_id.reveal()) for hop in sts.assumed] == [
        ("arn:aws:iam::222222222222:role/access", EXTERNAL_ID)
    ]
    assert [decision["decision_id"] for decision in decisions] == [grant.decision_id for grant in grants]
    assert decisions[0]["access_key_id"] == "ASIAACCESS"


async def test_a_diagnosis_has_its_line_before_a_role_is_assumed_for_it(house: House, sts: FakeSts) -> None:
    """CloudTrail may show the session of a workload that never asked."""
    sts.assume_error = BrokerError(Reason.ASSUME_ROLE_DENIED, "STS refused")
    async with running(house, sts) as it, Client(it.address, house.identity("spiffe://td.example/ops")) as client:
        steps = [step async for step in client.diagnose("orders", "app", workload=APP)]
    assert steps[-1].reason is Reason.ASSUME_ROLE_DENIED
    (line,) = it.audit()
    assert line.pop("time")
    assert line == {
        "event": "diagnosis",
        "caller": "spiffe://td.example/ops",
        "workload": APP,
        "database": "orders",
        "db_user": "app",
        "role_chain": ["arn:aws:iam::222222222222:role/access"],
    }


async def test_the_unix_listener_has_its_own_caller(house: House, sts: FakeSts) -> None:
    async with running(house, sts) as it, Client(f"unix:{house.folder}/b.sock") as client:
        await client.issue_credential("orders", "app")
        assert it.audit()[0]["caller"] == "spiffe://td.example/local"


async def test_refusals_arrive_and_are_audited(house: House, sts: FakeSts) -> None:
    async with running(house, sts) as it, it.client() as client:
        for database, user, reason in (
            ("nope", "app", Reason.DATABASE_UNKNOWN),
            ("orders", "root", Reason.DB_USER_NOT_ALLOWED),
            ("", "app", Reason.INVALID_REQUEST),
            ("orders", "a\x00b", Reason.INVALID_REQUEST),
        ):
            with pytest.raises(RpcFailed) as caught:
                await client.issue_credential(database, user)
            assert caught.value.reason is reason
        assert [decision["reason"] for decision in it.audit()] == [
            "DATABASE_UNKNOWN",
            "DB_USER_NOT_ALLOWED",
            "INVALID_REQUEST",
            "INVALID_REQUEST",
        ]


async def test_a_denied_role_tells_its_causes_and_no_secret(house: House, sts: FakeSts) -> None:
    sts.assume_error = BrokerError(Reason.ASSUME_ROLE_DENIED, "STS refused; check the trust policy and external ID")
    async with running(house, sts) as it, it.client() as client:
        with pytest.raises(RpcFailed, match="trust policy") as caught:
            await client.issue_credential("orders", "app")
        everything = caught.value.message + str(caught.value.metadata) + (house.folder / "audit.log").read_text()
        everything += (await it.get("/metrics"))[1]
    for secret in (EXTERNAL_ID, SECRET_KEY, SESSION_TOKEN):
        assert secret not in everything


async def test_it_is_ready_once_base_credentials_were_obtained(
    house: House, sts: FakeSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.running._FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("broker.running._MAX_RETRY_SECONDS", 0.05)
    sts.base_error = BrokerError(Reason.BASE_CREDENTIALS_MISSING, "no credentials: give the pod a role")
    async with running(house, sts) as it, it.client() as client:
        assert await it.get("/livez") == (200, "live\n")
        await eventually(lambda: "give the pod a role" in it.broker.readiness.ready()[1])
        assert (await it.get("/readyz"))[0] == 503
        with pytest.raises(RpcFailed, match="give the pod a role") as caught:
            await client.issue_credential("orders", "app")
        assert caught.value.reason is Reason.BASE_CREDENTIALS_MISSING
        sts.base_error = None
        await eventually(lambda: it.broker.readiness.base_obtained, 20)
        assert await it.get("/readyz") == (200, "ready\n")


async def test_aws_away_later_is_degraded_not_unready(house: House, sts: FakeSts) -> None:
    async with running(house, sts) as it, it.client() as client:
        await eventually(lambda: it.broker.readiness.base_obtained)
        sts.assume_error = BrokerError(Reason.AWS_UNAVAILABLE, "STS does not answer")
        with pytest.raises(RpcFailed):
            await client.issue_credential("orders", "app")
        status, body = await it.get("/readyz")
        assert status == 200
        assert "degraded" in body
        assert "STS does not answer" in body
        assert "tollbridge_broker_degraded 1.0" in (await it.get("/metrics"))[1]


async def test_metrics_tell_what_happened(house: House, sts: FakeSts) -> None:
    async with running(house, sts) as it, it.client() as client:
        await eventually(lambda: it.broker.readiness.base_obtained)
        await client.issue_credential("orders", "app")
        await client.issue_credential("orders", "app")
        status, body = await it.get("/metrics")
    assert status == 200
    for line in (
        "tollbridge_broker_credentials_issued_total 2.0",
        'tollbridge_broker_tokens_total{how="cached"} 1.0',
        'tollbridge_broker_databases{product="rds"} 1.0',
        "tollbridge_broker_ready 1.0",
    ):
        assert line in body


def test_the_audit_file_is_opened_again_after_it_was_moved(tmp_path: Path) -> None:
    audit = AuditFile(str(tmp_path / "audit.log"))
    audit.write("one")
    (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
    audit.reopen()
    audit.write("two")
    assert (tmp_path / "audit.log.1").read_text() == "one\n"
    assert (tmp_path / "audit.log").read_text() == "two\n"
    assert (tmp_path / "audit.log").stat().st_mode & 0o077 == 0o040


async def test_another_configuration_reaches_who_watches_and_who_logs_in(house: House, sts: FakeSts) -> None:
    """A static database more and a rule less, without a restart: the watch says the first, a login hears the second."""
    async with running(house, sts) as it, it.client() as client:
        watch = client.watch_databases()
        while not isinstance(await anext(watch), Synced):
            pass
        config = house.folder / "broker.yaml"
        more = yaml.safe_load(config.read_text())
        (database,) = more["db_service"]["databases"]
        late = {**database, "name": "late", "uri": database["uri"].replace("orders", "late")}
        more["db_service"]["databases"].append(late)
        config.write_text(yaml.safe_dump(more))
        settings = load(config).value
        await it.broker.in_force.replace(settings, derive(settings))
        news = await anext(watch)
        assert isinstance(news, Upsert)
        assert news.database.name == "late"
        assert (await client.issue_credential("late", "app")).endpoint.host.startswith("late.")
        more["access"]["rules"] = []
        config.write_text(yaml.safe_dump(more))
        settings = load(config).value
        await it.broker.in_force.replace(settings, derive(settings))
        assert isinstance(await anext(watch), PolicyChanged)
        with pytest.raises(RpcFailed):
            await client.issue_credential("late", "app")
