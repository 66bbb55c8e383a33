"""The admin port: /livez, /readyz and /metrics over HTTP/1.1, and nothing else.

GET and HEAD only, one request per connection, everything bounded. It tells nothing secret and does nothing, but it is
meant for the machine or the cluster, not for the world.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tollbridge.process.telemetry import METRICS_CONTENT_TYPE

MAX_HEAD_BYTES: Final = 8192
"""Request line and headers. Apache and nginx allow 8 KB too; kubelet and Prometheus send some 200 bytes."""
MAX_CONNECTIONS: Final = 64
"""At once. One more ends the oldest."""
REQUEST_SECONDS: Final = 5.0
"""For a whole exchange."""

_PLAIN: Final = "text/plain; charset=utf-8"
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

_log = logging.getLogger(__name__)


class AdminServer:
    """Serves the admin port between `start()` and `stop()`, or as an async context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        live: Callable[[], bool],
        ready: Callable[[], tuple[bool, str]],
        metrics: Callable[[], bytes],
    ) -> None:
        self._host = host
        self._port = port
        self._live = live
        self._ready = ready
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}
        """Oldest first."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the port is the real one when 0 was asked for."""
        if self._server is None:
            raise RuntimeError("the admin server has not been started")
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be bound."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(f"the admin port cannot listen on {self._host}:{self._port}: {why}") from error

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            # The oldest goes, not the newest: who holds connections open must not keep the probes of the cluster out.
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                writer.write(await self._exchange(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, _PLAIN, b"request too large\n")
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(400, _PLAIN, b"not an HTTP/1.1 request\n")
        method, target, _version = words
        if method not in (b"GET", b"HEAD"):
            return _response(405, _PLAIN, b"GET and HEAD only\n", extra="Allow: GET, HEAD\r\n")
        try:
            status, content_type, body = self._answer(target.split(b"?", 1)[0])
        except Exception:  # noqa: BLE001 - whatever a callable raises becomes a 500
            _log.exception("the admin port could not answer")
            status, content_type, body = 500, _PLAIN, b"internal error, see the log\n"
        return _response(status, content_type, body, head_only=method == b"HEAD")

    def _answer(self, path: bytes) -> tuple[int, str, bytes]:
        if path == b"/livez":
            live = self._live()
            return (200 if live else 503), _PLAIN, b"live\n" if live else b"not live\n"
        if path == b"/readyz":
            ready, why = self._ready()
            return (200 if ready else 503), _PLAIN, why.encode() + b"\n"
        if path == b"/metrics":
            return 200, METRICS_CONTENT_TYPE, self._metrics()
        return 404, _PLAIN, b"/livez /readyz /metrics\n"


def _response(status: int, content_type: str, body: bytes, *, head_only: bool = False, extra: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{extra}"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
