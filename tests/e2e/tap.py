"""Between proxy and broker: forwards every gRPC call as it is and keeps a copy of every message.

The proxy speaks plaintext on loopback to the tap, and the tap speaks to the broker with the proxy's certificate.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from deploy.sandbox.bridge import Bridge, Document
from deploy.sandbox.commands import free_port

STREAMS = frozenset({"/tollbridge.v1.CatalogService/WatchDatabases"})


@dataclass(slots=True)
class Tap(grpc.GenericRpcHandler):
    """`change` points a proxy here; `with tap.between(bridge)` forwards."""

    port: int = field(default_factory=free_port)
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    """Method and message, as on the wire."""
    errors: list[str] = field(default_factory=list)
    """Status, message, and every byte of metadata of calls that failed."""
    _broker: Bridge | None = None
    _channel: Any = None
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None
    _ready: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def change(self, document: Document) -> None:
        """The proxy's configuration with the tap for its broker."""
        document["broker"] = {"address": f"127.0.0.1:{self.port}"}

    def between(self, bridge: Bridge) -> Self:
        """Whose broker is behind it."""
        self._broker = bridge
        return self

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="tap")
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the tap does not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(10)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """gRPC asks how to serve a method: by passing it on, in bytes."""
        method = str(handler_call_details.method)
        if method in STREAMS:
            return grpc.unary_stream_rpc_method_handler(self._stream(method))
        return grpc.unary_unary_rpc_method_handler(self._unary(method))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._connect() as self._channel:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((self,))
            server.add_insecure_port(f"127.0.0.1:{self.port}")
            await server.start()
            self._ready.set()
            await self._stop.wait()
            await server.stop(0)

    def _connect(self) -> grpc.aio.Channel:
        assert self._broker is not None
        files = [Path(self._broker.file(name)).read_bytes() for name in ("mesh-ca.crt", "proxy.key", "proxy.crt")]
        return grpc.aio.secure_channel(
            f"localhost:{self._broker.ports['broker']}", grpc.ssl_channel_credentials(*files)
        )

    def _unary(self, method: str) -> Any:
        async def call(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            self.requests.append((method, request))
            forwarded = self._channel.unary_unary(method)(request, timeout=context.time_remaining())
            try:
                answer: bytes = await forwarded
            except grpc.aio.AioRpcError as error:
                return await self._fail(error, context)
            self.answers.append((method, answer))
            return answer

        return call

    def _stream(self, method: str) -> Any:
        async def call(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
            self.requests.append((method, request))
            try:
                async for answer in self._channel.unary_stream(method)(request):
                    self.answers.append((method, answer))
                    yield answer
            except grpc.aio.AioRpcError as error:
                await self._fail(error, context)

        return call

    async def _fail(self, error: grpc.aio.AioRpcError, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        trailing = tuple(error.trailing_metadata() or ())
        self.errors.append(f"{error.code()} {error.details()} {trailing!r} {error.debug_error_string()}")
        await context.abort(error.code(), error.details() or "", trailing)
        raise AssertionError("abort does not return")
