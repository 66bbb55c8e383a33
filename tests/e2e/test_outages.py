"""STS or a database is away, a proxy drains, a session is over its limit, a proxy is not whom it speaks for.

What holds while the broker is away is in test_broker_away.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World
from tests.e2e.arrangement import GRACE_SECONDS
from tests.e2e.clients import PATIENCE_SECONDS
from tests.e2e.conftest import Workshop
from tests.e2e.table import established
from tests.support.forwarder import Forwarder
from tests.support.raw_postgres import NativeError, RawClient, attempt, query

NOT_NOW: Final = "57P03"
HANDSHAKE_SECONDS: Final = 3.0


def brief(document: Document) -> None:
    """Short deadlines for every door."""
    for listener in document["listeners"]:
        listener["limits"] = {"handshake_seconds": HANDSHAKE_SECONDS}
    document["drain"] = {"seconds": 0.5}


def plain(bridge: Bridge) -> psycopg.Connection[tuple[Any, ...]]:
    """A session at the loopback door."""
    where = f"host=127.0.0.1 port={bridge.ports['app']} sslmode=disable"
    return psycopg.connect(f"{where} user=app dbname=app", autocommit=True)


def refusal(bridge: Bridge, *, user: str = "app", seconds: float = HANDSHAKE_SECONDS + GRACE_SECONDS) -> NativeError:
    """What a login is told that must not get in, in time."""
    error = attempt(bridge.ports["app"], user=user, seconds=seconds)
    assert error is not None, "it was let in"
    return error


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that will come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.05)


def let_in(bridge: Bridge, user: str = "app") -> bool:
    """Whether a login gets in now."""
    try:
        return attempt(bridge.ports["app"], user=user) is None
    except (ConnectionError, EOFError):
        return False


class TestStsAway:
    def test_without_sts_a_held_session_serves_and_a_missing_one_is_refused(
        self, workshop: Workshop, world: World
    ) -> None:
        port = int(world.aws_endpoint.rpartition(":")[2])
        with Forwarder(port) as sts:
            bridge = workshop.bridge(
                environment={"AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{sts.port}"},
                change_proxy=lambda document: document["listeners"][1].update(route=None, database="analytics"),
            )
            assert let_in(bridge)
            sts.cut()
            assert let_in(bridge, "readonly")
            assert bridge.broker.ready(), "trouble with STS is no reason to take a broker out of service"
            dsn = f"host=localhost hostaddr=127.0.0.1 port={bridge.ports['mtls']} user=app dbname=app"
            files = f"sslcert={bridge.file('client.crt')} sslkey={bridge.file('client.key')} sslmode=require"
            with pytest.raises(psycopg.OperationalError, match="STS"):
                psycopg.connect(f"{dsn} {files}")
            sts.mend()

            def analytics() -> bool:
                try:
                    psycopg.connect(f"{dsn} {files}").close()
                except psycopg.OperationalError:
                    return False
                return True

            eventually(analytics)


class TestDatabaseAway:
    def test_a_cut_ends_its_sessions_and_a_mended_way_lets_in_again(self, workshop: Workshop, world: World) -> None:
        database = world.database("rds-postgres")
        with Forwarder(database.local_port) as way:
            bridge = workshop.bridge(
                change_proxy=lambda document: document["dial"].update({database.endpoint: f"127.0.0.1:{way.port}"})
            )
            with plain(bridge) as session:
                way.cut()
                with pytest.raises(psycopg.OperationalError):
                    session.execute("select 1")
            error = refusal(bridge)
            assert (error.sqlstate, "nothing listens" in error.text) == ("08001", True)
            way.mend()
            assert let_in(bridge)


class TestDrain:
    def test_sessions_finish_new_ones_are_not_taken_and_the_process_ends_well(self, workshop: Workshop) -> None:
        bridge = workshop.bridge(change_proxy=lambda document: document.update(drain={"seconds": 10}))
        session = plain(bridge)
        running = threading.Thread(target=session.execute, args=("select pg_sleep(1)",))
        running.start()
        time.sleep(0.2)
        bridge.proxy.send(signal.SIGTERM)
        eventually(lambda: not bridge.proxy.ready())
        eventually(lambda: not let_in(bridge))
        running.join()
        assert session.execute("select 'finished'").fetchone() == ("finished",)
        session.close()
        assert bridge.proxy.process is not None
        assert bridge.proxy.process.wait(PATIENCE_SECONDS) == 0

    def test_who_is_still_there_at_the_limit_gets_postgres_goodbye(self, workshop: Workshop) -> None:
        bridge = workshop.bridge(change_proxy=brief)
        with RawClient(bridge.ports["app"]) as idle, RawClient(bridge.ports["app"]) as busy:
            for client in (idle, busy):
                assert client.log_in(user="app", database="app") is None
            busy.send(query("select pg_sleep(30)"))
            bridge.proxy.send(signal.SIGTERM)
            goodbye = idle.error()
            assert goodbye is not None
            assert (goodbye.severity, goodbye.sqlstate) == ("FATAL", "57P01")
            assert "shutting down" in goodbye.text
            busy.read_to_end()
        assert bridge.proxy.process is not None
        assert bridge.proxy.process.wait(PATIENCE_SECONDS) == 0
        ends = [line for line in bridge.audit("proxy") if line["event"] == "session.end"]
        assert {line["reason"] for line in ends} == {"DRAINING"}

    def test_a_login_under_way_ends_with_a_native_refusal(self, workshop: Workshop) -> None:
        bridge = workshop.bridge(change_proxy=lambda document: document.update(drain={"seconds": 0.3}))
        with RawClient(bridge.ports["app"]) as client:
            client.send(b"\0\0\0\x40")
            eventually(lambda: established(bridge.ports["app"]) == 1)  # the proxy's, and no longer the kernel's alone
            bridge.proxy.send(signal.SIGTERM)
            error = client.error()
        assert error is not None
        assert error.sqlstate == "57P01"

    def test_the_broker_drains_too_and_the_proxy_finds_its_successor(self, workshop: Workshop) -> None:
        bridge = workshop.bridge()
        assert let_in(bridge)
        assert bridge.broker.stop() == 0
        bridge.broker.start()
        eventually(lambda: let_in(bridge, "readonly"))


def limited(**limits: float) -> Callable[[Document], None]:
    """Sessions with limits."""
    return lambda document: document.update(sessions=limits)


class TestSessionLimits:
    @pytest.mark.parametrize(
        ("limit", "sqlstate"), [({"idle_seconds": 0.5}, "57P05"), ({"max_session_seconds": 1.0}, "57P01")]
    )
    def test_a_session_over_its_limit_is_told_goodbye(
        self, workshop: Workshop, limit: dict[str, float], sqlstate: str
    ) -> None:
        bridge = workshop.bridge(change_proxy=limited(**limit))
        with RawClient(bridge.ports["app"]) as client:
            assert client.log_in(user="app", database="app") is None
            goodbye = client.error()
        assert goodbye is not None
        assert goodbye.sqlstate == sqlstate
        assert next(iter(limit)) in goodbye.text


class TestProxyRows:
    def test_a_second_proxy_is_held_to_its_own_row(self, workshop: Workshop) -> None:
        """A stolen sidecar is not everybody: neither for other workloads nor for other databases."""
        sidecar = "spiffe://example.org/ns/warehouse/sa/sidecar"

        def narrow(document: Document) -> None:
            row = {"caller": sidecar, "workloads": ["spiffe://example.org/ns/warehouse/*"], "db_labels": {"env": ["*"]}}
            document["proxies"].append(row)

        bridge = workshop.bridge(change_broker=narrow)
        proxy = bridge.add_proxy("sidecar", sidecar)
        proxy.start()
        error = attempt(bridge.ports["sidecar_app"], user="app")
        assert error is not None
        assert error.sqlstate == "28000", error.text
        assert sidecar in error.text
        line = next(line for line in reversed(bridge.audit("broker")) if line["caller"] == sidecar)
        assert (line["allowed"], line["reason"]) == (False, "PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD")
        assert let_in(bridge)

    def test_a_proxy_without_a_row_speaks_for_nobody(self, workshop: Workshop) -> None:
        bridge = workshop.bridge()
        bridge.add_proxy("unknown", "spiffe://example.org/ns/shop/sa/not-a-proxy").start(wait=False)
        eventually(lambda: listening(bridge.ports["unknown_app"]))
        error = attempt(bridge.ports["unknown_app"], user="app")
        assert error is not None
        assert error.sqlstate == "28000", error.text
        assert "proxies" in error.text

    def test_a_proxy_with_a_foreign_certificate_gets_no_word_from_the_broker(self, workshop: Workshop) -> None:
        bridge = workshop.bridge()
        proxy = bridge.add_proxy("impostor", "spiffe://example.org/ns/tollbridge/sa/proxy")
        CertificateAuthority.create("somebody else's CA").issue(
            Path(bridge.file("impostor.crt")),
            Path(bridge.file("impostor.key")),
            spiffe_ids=["spiffe://example.org/ns/tollbridge/sa/proxy"],
            dns_names=["localhost"],
        )
        proxy.start(wait=False)
        eventually(lambda: listening(bridge.ports["impostor_app"]))
        error = attempt(bridge.ports["impostor_app"], user="app")
        assert error is not None
        assert error.sqlstate == NOT_NOW, error.text
        assert not proxy.ready()
        assert bridge.audit("broker") == []


def listening(port: int) -> bool:
    """Whether somebody answers a connect."""
    try:
        RawClient(port).socket.close()
    except OSError:
        return False
    return True
