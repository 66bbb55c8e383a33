"""Listening sockets, made eagerly: a port that is taken is an error at start, not later."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.net.dial import KEEPALIVE

BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpBind:
    """Listen on every address that `host` stands for."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixBind:
    """Listen on a path."""

    path: Path
    mode: int = 0o660


Bind = TcpBind | UnixBind


def bind(where: Bind) -> list[socket.socket]:
    """Bound sockets that do not listen yet. Raises OSError."""
    return _bind_unix(where) if isinstance(where, UnixBind) else _bind_tcp(where)


def _bind_tcp(where: TcpBind) -> list[socket.socket]:
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    port = where.port
    try:
        for family, kind, protocol, _name, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for level, option, value in KEEPALIVE:  # accepted sockets inherit them: no calls per connection
                sock.setsockopt(level, option, value)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]  # port 0: the same one for every address
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_unix(where: UnixBind) -> list[socket.socket]:
    _remove_stale(where.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~where.mode)  # never open wider than asked for, not even for a moment
    try:
        sock.bind(str(where.path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return [sock]


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more. Raises OSError when somebody does."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(f"another process listens on {path}")
