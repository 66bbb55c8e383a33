"""Where clients come in, at a listener of either kind.

Here is what both do: take the address, count who is in and say no to who is one too many, see out who has to go, and
drain. What becomes of a client that got in is the listener's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from proxy.errors import Refused, Side
from proxy.model import Door
from proxy.net.bind import BACKLOG, Bind, TcpBind, bind
from proxy.net.channel import LINGER_SECONDS
from proxy.net.counters import Counters
from proxy.net.events import LoginFacts, SessionLog, SessionRefusal
from proxy.net.transport import Link
from tollbridge.reasons import Reason

Client = TypeVar("Client")


def nothing() -> None:
    """What follows where nothing does."""


class Reception(ABC, Generic[Client]):
    """`bind`, then `run` until somebody calls `drain`."""

    def __init__(self, *, door: Door, where: Bind, max_connections: int, log: SessionLog, counters: Counters) -> None:
        self.door = door
        self.port = 0
        """The TCP port in use, once bound."""
        self._where = where
        self._max_connections = max_connections
        self._log = log
        self._counters = counters
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._open: dict[Link, Client] = {}
        """Who is in."""
        self._leaving = 0
        """Links that were closed and are not gone: last words take a moment to reach their readers."""
        self._one_left = asyncio.Event()
        self._draining = False
        self._drained = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    # What a listener says

    @abstractmethod
    def _admit(self, link: Link, facts: LoginFacts) -> Client:
        """A client got in. Somebody calls `_forget` when it has left."""

    @abstractmethod
    def _words(self, refusal: Refused) -> bytes:
        """A refusal in the protocol's own words, for a client that has said nothing yet."""

    @abstractmethod
    def _end(self, link: Link, client: Client, refusal: Refused) -> None:
        """End a client now, in order where that can be."""

    # What the app calls

    def bind(self) -> None:
        """Take the address. Raises OSError."""
        self._sockets = bind(self._where)
        if isinstance(self._where, TcpBind):
            self.port = self._sockets[0].getsockname()[1]

    @property
    def open_connections(self) -> int:
        """Clients that are in."""
        return len(self._open)

    async def run(self) -> None:
        """Serve until drained and every goodbye is delivered. Cancelling it ends every connection at once."""
        if not self._sockets:
            self.bind()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for sock in self._sockets:
                    serve = loop.create_server if sock.family != socket.AF_UNIX else loop.create_unix_server
                    self._servers.append(await serve(self._new_link, sock=sock, backlog=BACKLOG))
                await self._drained.wait()
                self._group = None
            await self._emptied(2 * LINGER_SECONDS)  # each link gives up by itself after LINGER_SECONDS
        finally:
            self._group = None
            self._close_servers()
            for link in list(self._open):
                link.abort()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let clients finish for so long, then say the protocol's goodbye to the rest."""
        self._draining = True
        self._close_servers()
        await self._emptied(seconds)
        refusal = Refused(Reason.DRAINING, "the proxy is shutting down: connect again, another replica answers")
        for link, client in list(self._open.items()):
            self._end(link, client, refusal)
        self._drained.set()

    # What a listener calls

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run it as a task, unless all is over. What it raises would end every other: let it raise nothing."""
        if self._group is not None:
            self._group.create_task(work(), name=name)

    def _forget(self, link: Link) -> None:
        """A client has left."""
        del self._open[link]
        self._counters.connections_open -= 1
        self._one_left.set()

    def _let_go(self, link: Link, then: Callable[[], None] = nothing) -> None:
        """Close a link, wait for it at the end, and call `then` when it is gone: a server counts it as long."""
        link.close()
        if link.lost:
            then()
        else:
            self._leaving += 1
            link.when_closed(partial(self._left, then))

    def _refused(self, facts: LoginFacts, refusal: Refused, seconds: float = 0.0) -> None:
        """A client got in, and what it wanted was refused after so long."""
        self._log.on_refusal(
            SessionRefusal(facts=facts, reason=refusal.reason, message=refusal.message, seconds=seconds)
        )
        self._counters.login(refusal.reason)

    @property
    def _flooded(self) -> bool:
        """So many goodbyes are under way, each with its descriptor, that who never got in gets none."""
        return self._leaving >= 2 * self._max_connections

    def _new_link(self) -> Link:
        return Link(Side.CLIENT, self._accepted)

    def _accepted(self, link: Link) -> None:
        self._counters.connections_total += 1
        facts = LoginFacts(peer=_peer(link), door=self.door.name)
        if self._draining or self._group is None:
            self._turn_away(link, facts, Refused(Reason.DRAINING, "the proxy is shutting down: connect again"))
        elif len(self._open) >= self._max_connections:
            message = (
                f"listener {self.door.name!r} has {self._max_connections} connections already: "
                "use a smaller pool, raise `max_connections`, or add replicas"
            )
            self._turn_away(link, facts, Refused(Reason.TOO_MANY_CONNECTIONS, message))
        else:
            self._counters.connections_open += 1
            self._open[link] = self._admit(link, facts)

    def _turn_away(self, link: Link, facts: LoginFacts, refusal: Refused) -> None:
        if self._flooded:  # too many for a line each as well
            self._counters.login(refusal.reason)
            link.abort()
            return
        link.write(self._words(refusal))
        self._let_go(link)
        self._refused(facts, refusal)

    def _left(self, then: Callable[[], None]) -> None:
        self._leaving -= 1
        self._one_left.set()
        then()

    async def _emptied(self, seconds: float) -> None:
        """Wait until everybody has gone, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open or self._leaving:
                    self._one_left.clear()
                    await self._one_left.wait()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._sockets:
            sock.close()


def _peer(link: Link) -> str:
    """A client's address, for logs."""
    name = link.socket_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
