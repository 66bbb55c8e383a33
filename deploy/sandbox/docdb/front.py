"""The connections: TLS outside, the login, then messages to and fro."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bson
from bson.binary import Binary

from . import messages
from .cluster import Cluster
from .login import Denied, Exchange
from .messages import Broken, Message

HELLO = frozenset({"hello", "isMaster", "ismaster"})
UNAUTHORIZED, AUTHENTICATION_FAILED, NOT_PRIMARY = 13, 18, 10107
CHUNK_BYTES = 262_144
READ_LIMIT_BYTES = 1_048_576

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Front:
    """All connections of one cluster."""

    cluster: Cluster
    make_exchange: Callable[[], Exchange]
    server: tuple[str, int]
    """Where the real server listens; nobody is checked there."""
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _live: "set[Connection]" = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        connection = Connection(self, reader, writer, next(self._ids), self.cluster.primary)
        self._live.add(connection)
        try:
            await connection.run()
        except (OSError, Broken) as error:
            log.info("connection %s: %s", connection.number, error)
        finally:
            self._live.discard(connection)
            connection.close()

    def step_down(self) -> None:
        """Another node becomes primary; the old one stays up, as a secondary."""
        self.cluster.change_primary()
        log.warning("primary: %s", self.cluster.nodes[self.cluster.primary])

    def fail_over(self) -> None:
        """The same, and the old one restarts: its connections are gone."""
        old = self.cluster.primary
        self.cluster.change_primary()
        for connection in [connection for connection in self._live if connection.node == old]:
            connection.close()
        log.warning("primary: %s", self.cluster.nodes[self.cluster.primary])


@dataclass(slots=True, eq=False)
class Connection:
    """One client's."""

    front: Front
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    node: int
    """Which one the client has reached: whichever was primary then."""
    _exchange: Exchange | None = None
    _server: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Until somebody hangs up."""
        if not await self._login():
            return
        reader, self._server = await asyncio.open_connection(*self.front.server, limit=READ_LIMIT_BYTES)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._from_server(reader), name=f"from-server-{self.number}")
            tasks.create_task(self._from_client(self._server), name=f"from-client-{self.number}")

    def close(self) -> None:
        """At once."""
        for writer in (self.writer, self._server):
            if writer is not None:
                writer.transport.abort()

    async def _login(self) -> bool:
        while (message := await messages.read(self.reader, messages.MAX_BEFORE_LOGIN_BYTES)) is not None:
            name = message.name()
            if name in HELLO:
                await self._hello(message)
            elif message.opcode != messages.OP_MSG:
                raise Broken(f"{name} as opcode {message.opcode}")
            elif name == "ping":
                await self._send(message.reply({"ok": 1.0}))
            elif name in ("saslStart", "saslContinue"):
                try:
                    done = await self._sasl(name, message)
                except Denied as why:
                    log.warning("connection %s: denied: %s", self.number, why)
                    await self._send(message.reply(_error(AUTHENTICATION_FAILED, "Authentication failed.")))
                    self._exchange = None
                else:
                    if done:
                        return True
            else:
                text = f"Command {name} requires authentication"
                await self._send(message.reply(_error(UNAUTHORIZED, text)))
        return False

    async def _sasl(self, name: str, message: Message) -> bool:
        command = message.document()
        if command.get("$db") != "$external":
            raise Denied(f"database {command.get('$db')}")
        if name == "saslStart":
            self._exchange = self.front.make_exchange()
            await self._send(message.reply(_sasl(self._exchange.start(command), done=False)))
            return False
        if self._exchange is None:
            raise Denied("no saslStart before it")
        arn = await asyncio.to_thread(self._exchange.finish, command)
        log.warning("connection %s: %s", self.number, arn)
        await self._send(message.reply(_sasl(None, done=True)))
        return True

    async def _hello(self, message: Message) -> None:
        asked, cluster = message.document(), self.front.cluster
        known = asked.get("topologyVersion")
        wait = asked.get("maxAwaitTimeMS", 0) / 1000
        if wait and known == cluster.topology_version():
            await cluster.wait_for_change(wait)
        streams = bool(wait and message.flags & messages.EXHAUST_ALLOWED)
        request_id, whole = self._hello_answer(message, asked, message.request_id, streams=streams)
        await self._send(whole)
        while streams:
            await cluster.wait_for_change(wait)
            request_id, whole = self._hello_answer(message, asked, request_id, streams=True)
            await self._send(whole)

    def _hello_answer(
        self, message: Message, asked: dict[str, Any], response_to: int, *, streams: bool
    ) -> tuple[int, bytes]:
        return messages.answer(
            self.front.cluster.hello(self.node, asked, self.number),
            opcode=message.opcode,
            response_to=response_to,
            flags=messages.MORE_TO_COME if streams else 0,
        )

    async def _from_client(self, server: asyncio.StreamWriter) -> None:
        while (message := await messages.read(self.reader, messages.MAX_MESSAGE_BYTES)) is not None:
            name = message.name()
            if name in HELLO:
                await self._hello(message)
            elif self.node != self.front.cluster.primary:
                await self._send(message.reply(self._not_primary()))
            else:
                server.write(message.whole)
                await server.drain()
        self.close()

    async def _from_server(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._send(chunk)
        self.close()

    def _not_primary(self) -> dict[str, Any]:
        error = _error(NOT_PRIMARY, "not primary")
        return {**error, "topologyVersion": self.front.cluster.topology_version()}

    async def _send(self, whole: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self.writer.write(whole)
        with contextlib.suppress(ConnectionResetError):
            await self.writer.drain()


_NAMES = {
    UNAUTHORIZED: "Unauthorized",
    AUTHENTICATION_FAILED: "AuthenticationFailed",
    NOT_PRIMARY: "NotWritablePrimary",
}


def _error(code: int, text: str) -> dict[str, Any]:
    return {"ok": 0.0, "errmsg": text, "code": code, "codeName": _NAMES[code]}


def _sasl(payload: dict[str, Any] | None, *, done: bool) -> dict[str, Any]:
    content = Binary(bson.encode(payload)) if payload is not None else Binary(b"")
    return {"conversationId": 1, "done": done, "payload": content, "ok": 1.0}
