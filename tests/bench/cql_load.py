"""A load of CQL: `python -m tests.bench.cql_load SETTINGS.json`; what it came to is printed as JSON.

Written for little CPU of its own: prepared statements over bare sockets, answers counted and not looked at. Settings:
port, user, password, tls (host and ca_file, or null), statement, value (an int to bind, null for none), connections,
depth (requests in flight on each), seconds (0: log in and leave).
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import statistics
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import cql

RECEIVE_BYTES = 262_144
PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Connection:
    """One, logged in."""

    socket: socket.socket
    execute: bytes
    waiting: bytes = b""

    @classmethod
    def open(cls, settings: dict[str, Any]) -> Connection:
        """Raises RuntimeError when it is not let in."""
        raw = socket.create_connection(("127.0.0.1", settings["port"]), timeout=PATIENCE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings["tls"]:
            context = ssl.create_default_context(cafile=settings["tls"]["ca_file"])
            raw = context.wrap_socket(raw, server_hostname=settings["tls"]["host"])
        made = cls(raw, b"")
        opcode, _ = made.request(cql.startup())
        if opcode == cql.AUTHENTICATE:
            opcode, body = made.request(cql.plain(settings["user"], settings["password"]))
            if opcode != cql.AUTH_SUCCESS:
                raise RuntimeError(f"not let in: {body[6:]!r}")
        statement = settings["statement"].encode()
        opcode, body = made.request(cql.frame(cql.PREPARE, len(statement).to_bytes(4, "big") + statement))
        if opcode != cql.RESULT:
            raise RuntimeError(f"not prepared: {body[6:]!r}")
        size = int.from_bytes(body[4:6], "big")
        value = settings["value"]
        bound = b"\0" if value is None else b"\1\0\1" + cql.long(struct.pack(">i", value))
        made.execute = cql.frame(cql.EXECUTE, body[4 : 6 + size] + b"\0\1" + bound)
        return made

    def request(self, frame: bytes) -> tuple[int, bytes]:
        """The answer's opcode and body."""
        self.socket.sendall(frame)
        while len(self.waiting) < 9 or len(self.waiting) < 9 + int.from_bytes(self.waiting[5:9], "big"):
            self.waiting += self._receive()
        end = 9 + int.from_bytes(self.waiting[5:9], "big")
        opcode, body, self.waiting = self.waiting[4], self.waiting[9:end], self.waiting[end:]
        return opcode, body

    def answered(self) -> int:
        """Answers that are whole now. Raises RuntimeError when one of them is an error."""
        data = self.waiting + self._receive()
        at = count = 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at + 5 : at + 9], "big")
            if end > len(data):
                break
            if data[at + 4] != cql.RESULT:
                raise RuntimeError(f"an answer with opcode {data[at + 4]}")
            at = end
            count += 1
        self.waiting = data[at:]
        return count

    def _receive(self) -> bytes:
        if not (data := self.socket.recv(RECEIVE_BYTES)):
            raise RuntimeError("the server has closed the connection")
        return data


def one_by_one(connection: Connection, seconds: float) -> dict[str, float]:
    """A question, its answer, the next question."""
    took = []
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        connection.request(connection.execute)
        took.append(time.perf_counter() - begun)
    return {"operations": len(took), "seconds": seconds, "latency_us": statistics.median(took) * 1e6}


def side_by_side(connections: list[Connection], depth: int, seconds: float) -> dict[str, float]:
    """So many in flight on each."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.socket.sendall(connection.execute * depth)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for key, _ in selector.select(1.0):
            answered = key.data.answered()
            count += answered
            key.data.socket.sendall(key.data.execute * answered)
    return {"operations": count, "seconds": time.perf_counter() - begun, "latency_us": 0.0}


def main() -> None:
    """See above."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    connections = [Connection.open(settings) for _ in range(settings["connections"])]
    if not settings["seconds"]:
        figures = {"operations": 0, "seconds": 0.0, "latency_us": 0.0}
    elif settings["connections"] * settings["depth"] == 1:
        figures = one_by_one(connections[0], settings["seconds"])
    else:
        figures = side_by_side(connections, settings["depth"], settings["seconds"])
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
