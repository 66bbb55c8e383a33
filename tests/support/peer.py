"""The far end of a connection: a socket with TLS by hand, so that a test says each step and each kind of ending."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable


class Peer:
    """A client of the proxy, or a database behind it. Plain until `tls`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object: ssl.SSLObject | None = None
        self._fin = False

    @classmethod
    async def dial(cls, port: int, *, receive_buffer: int = 0) -> Peer:
        """Connect to 127.0.0.1."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    async def tls(
        self, context: ssl.SSLContext, name: str | None = None, *, server: bool = False, sliced: bool = False
    ) -> Peer:
        """Handshake; `sliced` sends it byte by byte."""
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=name)
        while True:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush(sliced=sliced)
                await self._more()
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush(sliced=sliced)
                return self

    async def send(self, data: bytes) -> None:
        """Write all of it."""
        if self.object is None:
            await self._loop.sock_sendall(self._sock, data)
            return
        self.object.write(data)
        await self._flush()

    async def send_raw(self, data: bytes) -> None:
        """Write bytes beside TLS."""
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self, count: int = 65536) -> bytes:
        """What comes next, b"" at the end."""
        if self.object is None:
            return await self._loop.sock_recv(self._sock, count)
        while True:
            try:
                return self.object.read(count)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def exactly(self, count: int) -> bytes:
        """That many bytes, or fewer at the end."""
        data = b""
        while len(data) < count and (part := await self.receive(count - len(data))):
            data += part
        return data

    async def to_end(self) -> bytes:
        """Everything until the other side ends."""
        data = bytearray()
        while part := await self.receive():
            data += part
        return bytes(data)

    async def finish(self, *, close_notify: bool = True, fin: bool = True) -> None:
        """Say that no more comes, and keep reading."""
        if self.object is not None and close_notify:
            with contextlib.suppress(ssl.SSLError):
                self.object.unwrap()
            await self._flush()
        if fin:
            self._sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Drop the socket."""
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._sock.close()

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self._sock, 65536)
        if data:
            self._incoming.write(data)
        elif not self._fin:
            self._fin = True
            self._incoming.write_eof()

    async def _flush(self, *, sliced: bool = False) -> None:
        if not self._outgoing.pending:
            return
        data = self._outgoing.read()
        if not sliced:
            await self._loop.sock_sendall(self._sock, data)
            return
        for at in range(len(data)):
            await self._loop.sock_sendall(self._sock, data[at : at + 1])
            await asyncio.sleep(0)


class Server:
    """Accepts on a free port of 127.0.0.1 and runs a handler per connection; see `serving`."""

    def __init__(self, handler: Callable[[Peer], Awaitable[None]], sock: socket.socket) -> None:
        self._handler = handler
        self._sock = sock
        self._handling: dict[asyncio.Task[None], Peer] = {}
        self.port: int = sock.getsockname()[1]
        self.accepted = 0

    def accept(self) -> None:
        """Somebody connects."""
        sock, _ = self._sock.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        peer = Peer(sock)
        # A TaskGroup would wrap what the test itself raises.
        task = asyncio.create_task(self._handle(peer))  # noqa: TID251
        self._handling[task] = peer
        task.add_done_callback(self._handling.pop)

    async def _handle(self, peer: Peer) -> None:
        try:
            await self._handler(peer)
        except (OSError, ssl.SSLError):
            pass
        finally:
            peer.close()

    async def stop(self) -> None:
        """Cancel what is going on."""
        handling = dict(self._handling)
        for task in handling:
            task.cancel()
        for result in await asyncio.gather(*handling, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        for peer in handling.values():  # those whose handler never began to run
            peer.close()


@contextlib.asynccontextmanager
async def serving(handler: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Server]:
    """A server while the block runs; what it is doing then is cancelled."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:
        sock.setblocking(False)
        server = Server(handler, sock)
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, server.accept)
        try:
            yield server
        finally:
            loop.remove_reader(sock)
            await server.stop()
