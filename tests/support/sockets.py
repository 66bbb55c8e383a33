"""Who has connected where, as the kernel sees it."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path

_ESTABLISHED = "01"


def unheard() -> socket.socket:
    """Bound to a port of 127.0.0.1 and not listening: whoever connects is refused, and nobody else can listen there."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def connections(pid: int, port: int) -> set[int]:
    """Its own ports of those that a process has to a port: a set, so that those which end meanwhile do not count."""
    return {own for own, (_, number) in _ends(pid) if number == port}


def connected_to(pid: int) -> set[tuple[str, int]]:
    """Address and port at the other end of each TCP connection that a process has."""
    return {end for _, end in _ends(pid)}


def _ends(pid: int) -> list[tuple[int, tuple[str, int]]]:
    """Its own port, and address and port at the other end."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and fields[3] == _ESTABLISHED:
            address, port = fields[2].split(":")
            host = ipaddress.IPv4Address(bytes.fromhex(address)[::-1])
            own = int(fields[1].split(":")[1], 16)
            found.append((own, (str(host), int(port, 16))))
    return found
