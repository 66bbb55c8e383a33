"""haproxy as a peer: plain from the client, TLS with the server's name verified, bytes passed on, nobody logged in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deploy.sandbox.commands import free_port
from deploy.sandbox.world import Database
from tests.bench.contenders import program, running

PEER = "haproxy"


@contextlib.contextmanager
def before(database: Database, ca_cert_file: str, directory: Path) -> Iterator[tuple[int, int]]:
    """Its port and its process, with one thread."""
    port, settings = free_port(), directory / f"haproxy-{database.name}.cfg"
    settings.write_text(
        "global\n  nbthread 1\ndefaults\n  mode tcp\n"
        "  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen {database.name}\n  bind 127.0.0.1:{port}\n"
        f"  server db 127.0.0.1:{database.local_port} ssl verify required ca-file {ca_cert_file} "
        f"sni str({database.host}) verifyhost {database.host}\n"
    )
    with running([program("haproxy"), "-db", "-f", str(settings)], port, settings.with_suffix(".log")) as pid:
        yield port, pid
