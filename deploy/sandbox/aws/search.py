"""The door of OpenSearch Service and OpenSearch Serverless: checks each request's signature, then passes it on.

Nothing is kept whole in memory: a body whose hash was announced is passed on while it is hashed, its last piece only
when the hash was right; any other is spooled to a file first. The real server stands behind, on loopback.
"""

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import IO

import h11  # type: ignore[import-not-found, unused-ignore]

from . import clock, emulator, signed
from .calls import Call
from .emulator import Message, Receive, Send
from .logins import Login

CHUNK_BYTES = 262_144
SPOOL_BYTES = 1_048_576
NOT_FORWARDED = frozenset(
    {b"authorization", b"connection", b"expect", b"host", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}
)
UNKNOWN_TO_SERVERLESS = frozenset({b"/", b"/_cat/health", b"/_cluster/health", b"/_nodes", b"/_cat/nodes"})
"""A collection has no cluster to tell about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One domain or collection."""

    host: str
    service: str
    """es or aoss."""
    account_id: str
    region: str
    resource_id: str
    database: str
    port_file: str
    """Where the server's port on loopback stands once it runs."""

    @property
    def resource_arn(self) -> str:
        kind = f"domain/{self.resource_id}/*" if self.service == "es" else f"collection/{self.resource_id}"
        return f"arn:aws:{self.service}:{self.region}:{self.account_id}:{kind}"

    def port(self) -> int:
        """Of the server."""
        return int(Path(self.port_file).read_text())

    def permission(self, method: str) -> str:
        return f"es:ESHttp{method.capitalize()}" if self.service == "es" else "aoss:APIAccessAll"


class Refused(Exception):
    """The request is not let in: status, code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Search:
    """All doors of one process. ``note`` is told of every verdict."""

    def __init__(self, doors: list[Door], note: Callable[[Login], None]) -> None:
        self._doors = {door.host: door for door in doors}
        self._note = note

    def door(self, scope: Message) -> Door | None:
        """Which one a request is for."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return self._doors.get(hosts[0].decode("latin-1").removesuffix(":443")) if len(hosts) == 1 else None

    @staticmethod
    def call(door: Door, scope: Message) -> Call:
        """As counters and faults name it: es:ESHttpGet, aoss:APIAccessAll."""
        service, action = door.permission(scope["method"]).split(":")
        return Call(
            service=service, action=action, access_key_id=None, signed_service=None, is_json=True, parameters={}
        )

    async def serve(self, door: Door, scope: Message, receive: Receive, send: Send) -> int:
        """Answer one request; the status it was answered with."""
        body = _Body(receive)
        key: str | None = None
        try:
            claim = self._claim(scope)
            key = claim.access_key_id
            caller, expected = _authenticated(claim, door, scope)
            # What was announced is checked first; a body of unknown hash has been read by now.
            payload_hash = claim.payload_hash or await body.spool()
            _check(claim, door, scope, signature=expected(payload_hash), caller=caller)
            self._remember(door, key, "Allow")
            return await _forward(door, scope, body.pieces(claim.payload_hash), send)
        except Refused as refused:
            self._remember(door, key, refused.code)
            # A client that is still sending may otherwise never look at the answer.
            await body.drain()
            return await _respond(send, refused)
        finally:
            body.close()

    @staticmethod
    def _claim(scope: Message) -> signed.Claim:
        try:
            return signed.parse(scope["headers"])
        except signed.Unsigned as error:
            raise Refused(403, "IncompleteSignatureException", str(error)) from error

    def _remember(self, door: Door, key: str | None, why: str) -> None:
        caller = emulator.caller_arn(key) if key else None
        self._note(
            Login(
                database=door.database,
                db_user=caller or "",
                ok=why == "Allow",
                why=why,
                access_key_id=key,
                time=time.time(),
            )
        )


def _authenticated(claim: signed.Claim, door: Door, scope: Message) -> tuple[str, Callable[[str], str]]:
    """Who claims to have signed, and the signature for a payload hash. Raises Refused."""
    if claim.region != door.region:
        raise Refused(403, "InvalidSignatureException", "Credential should be scoped to a valid region.")
    if claim.service != door.service:
        message = f"Credential should be scoped to correct service: '{door.service}'."
        raise Refused(403, "InvalidSignatureException", message)
    if (late := signed.skewed(claim, clock.now())) is not None:
        raise Refused(403, "InvalidSignatureException", late)
    if emulator.session_expired(claim.access_key_id):
        raise Refused(403, "ExpiredTokenException", "The security token included in the request is expired")
    secret = None
    if not emulator.bury_dead_session(claim.access_key_id):
        secret = emulator.session_secret(claim.access_key_id, claim.session_token, account_id=door.account_id)
    if secret is None:
        message = "The security token included in the request is invalid"
        raise Refused(403, "UnrecognizedClientException", message)
    given = claim.payload_hash
    if given is None and door.service == "aoss":
        raise Refused(403, "Forbidden", "x-amz-content-sha256 is required")
    if given is not None and not signed.is_hash(given) and (given != signed.UNSIGNED_PAYLOAD or door.service == "es"):
        raise Refused(403, "InvalidSignatureException", "x-amz-content-sha256 is not what this service takes")
    query = scope.get("query_string", b"")
    target = scope["raw_path"] + (b"?" + query if query else b"")

    def expected(payload_hash: str) -> str:
        return signed.signature(
            claim,
            secret,
            method=scope["method"],
            target=target,
            headers=scope["headers"],
            payload_hash=payload_hash,
        )

    return emulator.caller_arn(claim.access_key_id) or claim.access_key_id, expected


def _check(claim: signed.Claim, door: Door, scope: Message, *, signature: str, caller: str) -> None:
    """Whether they signed it, and may do it. Raises Refused."""
    if not emulator.same_signature(signature, claim.signature):
        raise Refused(403, "InvalidSignatureException", "The request signature we calculated does not match.")
    permission = door.permission(scope["method"])
    refusal = emulator.policy_refusal(
        claim.access_key_id,
        account_id=door.account_id,
        region=door.region,
        action=permission,
        resource_arns=[door.resource_arn],
    )
    if refusal is not None:
        raise Refused(403, "AccessDeniedException", f"User: {caller} is not authorized to perform: {permission}")


class _Body:
    """A request's body, in pieces."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._file: IO[bytes] | None = None
        self._done = False

    async def spool(self) -> str:
        """Read it whole, into a file; its hash."""
        digest = hashlib.sha256()
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - see close
        async for piece in self._received():
            digest.update(piece)
            self._file.write(piece)
        self._file.seek(0)
        return digest.hexdigest()

    def close(self) -> None:
        """Forget what was spooled."""
        if self._file is not None:
            self._file.close()

    async def drain(self) -> None:
        """Read what is left, and forget it."""
        async for _ in self._received():
            pass

    async def pieces(self, announced: str | None) -> AsyncIterator[bytes]:
        """Raises Refused instead of the last piece when it has not the hash that was announced and signed."""
        if self._file is not None:
            while piece := self._file.read(CHUNK_BYTES):
                yield piece
            return
        digest, held = hashlib.sha256(), b""
        async for piece in self._received():
            digest.update(piece)
            if held:
                yield held
            held = piece
        if announced != signed.UNSIGNED_PAYLOAD and digest.hexdigest() != announced:
            raise Refused(403, "InvalidSignatureException", "The body is not the one that was signed.")
        if held:
            yield held

    async def _received(self) -> AsyncIterator[bytes]:
        while not self._done:
            message = await self._receive()
            if message["type"] != "http.request":
                self._done = True
                raise ConnectionResetError("the client has gone")
            self._done = not message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece


async def _forward(door: Door, scope: Message, pieces: AsyncIterator[bytes], send: Send) -> int:
    """Have the real server answer. Raises Refused when the body turns out wrong on the way."""
    if door.service == "aoss" and scope["raw_path"] in UNKNOWN_TO_SERVERLESS:
        raise Refused(404, "NotFound", "")
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port(), limit=CHUNK_BYTES)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1_048_576)
        writer.write(connection.send(_request(scope)))
        async for piece in pieces:
            writer.write(connection.send(h11.Data(data=piece)))
            await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()))
        await writer.drain()
        return await _answer(connection, reader, scope["method"], send)
    finally:
        writer.close()


def _request(scope: Message) -> "h11.Request":
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in NOT_FORWARDED and not name.startswith(b"x-amz-")
    ]
    if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        headers.append((b"transfer-encoding", b"chunked"))
    query = scope.get("query_string", b"")
    target = scope["raw_path"] + (b"?" + query if query else b"")
    more = [(b"host", b"opensearch"), (b"connection", b"close")]
    return h11.Request(method=scope["method"].encode(), target=target, headers=[*more, *headers])


async def _answer(connection: "h11.Connection", reader: asyncio.StreamReader, method: str, send: Send) -> int:
    status = 502
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            left_out = (b"connection", b"date", b"keep-alive", b"transfer-encoding")
            headers = [(name, value) for name, value in event.headers if name not in left_out]
            headers.append((b"date", formatdate(usegmt=True).encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
        elif isinstance(event, h11.Data):
            await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
        elif isinstance(event, h11.EndOfMessage):
            await send({"type": "http.response.body", "body": b""})
            return status
        elif isinstance(event, h11.ConnectionClosed):
            return status


async def _respond(send: Send, refused: Refused) -> int:
    body = json.dumps({"message": refused.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"date", formatdate(usegmt=True).encode()),
        (b"x-amzn-errortype", refused.code.encode()),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return refused.status
