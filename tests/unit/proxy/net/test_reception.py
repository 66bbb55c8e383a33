"""What both kinds of listener have in common, with clients that nobody serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.errors import Refused
from proxy.model import Door
from proxy.net.bind import Bind, TcpBind, UnixBind
from proxy.net.channel import LINGER_SECONDS
from proxy.net.counters import Counters
from proxy.net.events import LoginFacts
from proxy.net.reception import Reception
from proxy.net.transport import Link
from tests.support.peer import Peer
from tests.support.stage import until
from tests.support.toy import ListLog
from tollbridge.reasons import Reason

ANYWHERE = TcpBind(host="127.0.0.1", port=0)


class Hall(Reception[LoginFacts]):
    """Clients come in, and stay until they leave or are told to."""

    def _admit(self, link: Link, facts: LoginFacts) -> LoginFacts:
        link.when_closed(lambda: self._forget(link))
        return facts

    def _words(self, refusal: Refused) -> bytes:
        return f"no: {refusal.reason}".encode()

    def _end(self, link: Link, client: LoginFacts, refusal: Refused) -> None:
        link.write(f"bye: {refusal.reason}".encode())
        link.close()


@dataclass
class Scene:
    """A hall that runs, and who went there."""

    hall: Hall
    task: asyncio.Task[None]
    clients: list[Peer] = field(default_factory=list)

    async def dial(self) -> Peer:
        """A client that says nothing; closed at the end."""
        self.clients.append(await Peer.dial(self.hall.port))
        return self.clients[-1]

    async def enter(self) -> Peer:
        """One that is in."""
        before = self.hall.open_connections
        client = await self.dial()
        await until(lambda: self.hall.open_connections == before + 1)
        return client


@contextlib.asynccontextmanager
async def scene(*, max_connections: int = 10, where: Bind = ANYWHERE) -> AsyncIterator[Scene]:
    door = Door(name="hall", tls_available=False, tls_required=False)
    hall = Hall(door=door, where=where, max_connections=max_connections, log=ListLog(), counters=Counters())
    hall.bind()
    task = asyncio.create_task(hall.run())  # noqa: TID251 - a TaskGroup would wrap what the test raises
    await asyncio.sleep(0)
    stage = Scene(hall, task)
    try:
        yield stage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for client in stage.clients:
            client.close()
        await until(lambda: not hall.open_connections and not hall._leaving)


async def test_who_has_to_go_is_waited_for_and_nobody_else() -> None:
    async with scene(max_connections=1) as stage:
        guest = await stage.enter()
        stranger = await stage.dial()
        assert await stranger.to_end() == b"no: TOO_MANY_CONNECTIONS"
        await stage.hall.drain(0)
        assert await guest.to_end() == b"bye: DRAINING"
        guest.close()
        await until(lambda: not stage.hall.open_connections)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stage.task.done()  # the stranger has not closed
        stranger.close()
        async with asyncio.timeout(LINGER_SECONDS / 2):
            await stage.task


async def test_a_drain_ends_when_the_last_client_leaves() -> None:
    async with scene() as stage:
        clients = [await stage.enter() for _ in range(2)]
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(stage.hall.drain(60))
            for client in clients:
                client.close(reset=True)
        await stage.task


async def test_cancelling_ends_every_client_at_once() -> None:
    async with scene() as stage:
        clients = [await stage.enter() for _ in range(3)]
        stage.task.cancel()
        async with asyncio.timeout(10):
            for client in clients:
                with contextlib.suppress(ConnectionError):
                    assert await client.to_end() == b""
        await until(lambda: not stage.hall.open_connections)
        with pytest.raises(ConnectionRefusedError):
            await stage.dial()


async def test_where_a_client_comes_from(tmp_path: Path) -> None:
    """Its address without the port; a unix socket's has none."""
    async with scene() as stage, scene(where=UnixBind(path=tmp_path / "s")) as local:
        await stage.enter()
        _, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await until(lambda: local.hall.open_connections)
        assert [facts.source for facts in stage.hall._open.values()] == ["127.0.0.1"]
        assert [(facts.peer, facts.source) for facts in local.hall._open.values()] == [("unix", "unix")]
        writer.close()
    assert LoginFacts(peer="2001:db8::1:5432", door="d").source == "2001:db8::1"


async def test_one_turned_away_is_counted_and_written_down_once() -> None:
    async with scene(max_connections=1) as stage:
        await stage.enter()
        assert await (await stage.dial()).to_end() == b"no: TOO_MANY_CONNECTIONS"
        log, counters = stage.hall._log, stage.hall._counters
        assert isinstance(log, ListLog)
        assert [(row.reason, row.facts.door) for row in log.refusals] == [(Reason.TOO_MANY_CONNECTIONS, "hall")]
        assert counters.logins == {"TOO_MANY_CONNECTIONS": 1}
        assert (counters.connections_total, counters.connections_open) == (2, 1)
