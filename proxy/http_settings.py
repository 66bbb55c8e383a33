"""The `http` section of a listener: what requests may take, in bytes and in time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from proxy.addresses import Name, Seconds
from tollbridge.process.settings import Finding, Section

MEBIBYTE: Final = 1024 * 1024
Bytes = Annotated[int, Field(ge=0, le=1 << 40)]


class HttpListenerSettings(Section):
    """Of listeners whose protocol is spoken over HTTP."""

    hosts: dict[Name, Name] = Field(default_factory=dict)
    """Name in the Host header, in lower case and without port -> database."""
    max_body_bytes: Bytes = 20 * MEBIBYTE
    """Of a request's body that is kept in memory, so that it can be hashed, signed and sent again. A larger one goes to
    `spool_dir`, or is streamed where the service takes unsigned bodies, or is refused."""
    max_buffer_bytes: Bytes = 256 * MEBIBYTE
    """Of all bodies in memory together. A request for which there is no room waits until another one is done."""
    spool_dir: Path | None = None
    """Where bodies above `max_body_bytes` lie until they are answered: files without a name, gone with the process."""
    max_spool_bytes: Bytes = 1024 * MEBIBYTE
    """Of all bodies in `spool_dir` together."""
    head_seconds: Seconds = 15.0
    """From the first byte of a request to the end of its head."""
    stall_seconds: Seconds = 30.0
    """For a client that stops in the middle of a body, its own or an answer's."""
    idle_seconds: Seconds = 300.0
    """How long a client's connection may wait for its next request."""
    answer_seconds: Seconds = 300.0
    """From the end of a request to the beginning of its answer."""
    upstream_connections: Annotated[int, Field(ge=1, le=65535)] = 2048
    """Open connections to one host of a database at most."""
    upstream_idle_seconds: Seconds = 30.0
    """How long a connection to upstream is kept for the next request."""
    upstream_age_seconds: Seconds = 300.0
    """How old a connection may become: a name that has moved is followed within this time."""
    wait_seconds: Seconds = 10.0
    """How long a request waits for a connection when as many as may are in use."""

    def findings(self) -> Iterator[Finding]:
        """What a type cannot say."""
        if self.max_buffer_bytes < self.max_body_bytes:
            yield Finding(
                self.at("max_buffer_bytes"),
                "is less than `max_body_bytes`: the largest bodies would wait for ever",
                hint=f"at least {self.max_body_bytes}",
            )
        if self.spool_dir is not None and not self.spool_dir.is_absolute():
            yield Finding(self.at("spool_dir"), "must be an absolute path")
        for name in self.hosts:
            if name != name.lower() or ":" in name:
                yield Finding(self.at("hosts", name), "must be a lower-case name without a port")

    def file_problems(self) -> Iterator[str]:
        """What is wrong with the directory."""
        if self.spool_dir is not None and not os.access(self.spool_dir, os.W_OK | os.X_OK):
            yield f"{self.spool_dir} is no directory that can be written"
