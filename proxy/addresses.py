"""Addresses as settings write them: `host:port`, `[v6]:port`, `unix:/path`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tollbridge.process.settings import Finding, Section

UNIX: Final = "unix:"
IPV4_LIST: Final = "ipv4:"
"""Begins a list of addresses, as gRPC writes it."""
MAX_UNIX_PATH: Final = 107
"""sun_path holds 108 bytes with its NUL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen or connect: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def local(self) -> bool:
        """Whether nobody but this machine can be at the other end."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`host:port`, `[v6]:port` or `unix:/path`. Raises ValueError, which the loader reports."""
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path.startswith("/") or len(path.encode()) > MAX_UNIX_PATH:
            raise ValueError(f"a unix socket is unix:/absolute/path of at most {MAX_UNIX_PATH} bytes")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host and not bracketed) or not (port.isascii() and port.isdigit()):
        raise ValueError("must be host:port, [IPv6 address]:port or unix:/path")
    if int(port) > 65535:
        raise ValueError("a port is at most 65535")
    return Address(host=host.lower(), port=int(port))


def address_findings(section: Section, text: str) -> Iterator[Finding]:
    """As a finding and not as a type: a type error would hide what else is wrong with the section."""
    try:
        parse_address(text)
    except ValueError as error:
        yield Finding(section.at("address"), str(error))


def is_local(text: str) -> bool:
    try:
        return parse_address(text).local
    except ValueError:
        return True


def is_ipv4(text: str) -> bool:
    """Whether it is an IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_port_address(text: str) -> str:
    if parse_address(text).path:
        raise ValueError("must be host:port here")
    return text


PortAddressText = Annotated[str, AfterValidator(_is_port_address)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
