"""`python -m tests.support.bulk_server PORT CERTIFICATE KEY`: an HTTPS server that takes large bodies and sends some.

It answers `GET|POST /N` with N bytes, and throws away what it is sent; x-received says how much that was. Whole when
Content-Length or the last chunk says so, and no more of a parser than that takes.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from typing import Final

import uvloop

PIECE: Final = b"0123456789abcdef" * 16_384
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            received = await _take(reader, head)
            size = int(head.split(b" ", 2)[1].lstrip(b"/") or b"0")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"x-received: %d\r\nContent-Length: %d\r\n\r\n" % (received, size))
            while size:
                piece = PIECE[:size]
                writer.write(piece)
                size -= len(piece)
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def _take(reader: asyncio.StreamReader, head: bytes) -> int:
    if _CHUNKED.search(head):
        total = 0
        while size := int((await reader.readline()).split(b";")[0], 16):
            total += size
            await _skip(reader, size + 2)
        await reader.readline()
        return total
    found = _LENGTH.search(head)
    total = int(found[1]) if found else 0
    await _skip(reader, total)
    return total


async def _skip(reader: asyncio.StreamReader, count: int) -> None:
    while count:
        data = await reader.read(min(count, 1 << 20))
        if not data:
            raise asyncio.IncompleteReadError(b"", count)
        count -= len(data)


async def _main(port: int, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(_serve, "127.0.0.1", port, ssl=context, limit=1 << 18, backlog=256)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
