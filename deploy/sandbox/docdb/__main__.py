"""``python -m docdb SETTINGS.json``.

Settings: ``port``; ``certificate`` and ``key``, files; ``nodes``, host:port of each; ``sts_host``, what clients sign
for; ``users``, ARNs of roles; ``server_port``, of the real server on loopback; ``aws_ready_file``, which names the port
of the sandbox's AWS once it is up; ``ready_file``, made once the front listens.

SIGUSR1 restarts the primary, and another node takes its place; SIGUSR2 only makes it step down.
"""

import asyncio
import json
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from . import messages
from .cluster import Cluster
from .front import READ_LIMIT_BYTES, Front
from .login import Exchange

BACKLOG = 1024
SEED = ({"_id": 1, "customer": "Ada"}, {"_id": 2, "customer": "Grace"}, {"_id": 3, "customer": "Edsger"})
"""What ``app.orders`` holds."""


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    asyncio.run(_serve(settings))


async def _serve(settings: dict[str, Any]) -> None:
    def aws_endpoint() -> tuple[str, int]:
        return "127.0.0.1", json.loads(Path(settings["aws_ready_file"]).read_text())["port"]

    users = frozenset(settings["users"])
    front = Front(
        Cluster(tuple(settings["nodes"])),
        lambda: Exchange(settings["sts_host"], users, aws_endpoint),
        ("127.0.0.1", settings["server_port"]),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings["certificate"], settings["key"])
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, front.fail_over)
    loop.add_signal_handler(signal.SIGUSR2, front.step_down)
    server = await asyncio.start_server(
        front.serve, "127.0.0.1", settings["port"], ssl=context, limit=READ_LIMIT_BYTES, backlog=BACKLOG
    )
    await _seed(front.server)
    _write_ready(Path(settings["ready_file"]))
    async with server:
        await server.serve_forever()


async def _seed(server: tuple[str, int]) -> None:
    """Into the server, from behind."""
    reader, writer = await asyncio.open_connection(*server)
    command = {"insert": "orders", "documents": list(SEED), "$db": "app"}
    writer.write(messages.answer(command, opcode=messages.OP_MSG, response_to=0)[1])
    await messages.read(reader, messages.MAX_MESSAGE_BYTES)
    writer.close()
    await writer.wait_closed()


def _write_ready(ready_file: Path) -> None:
    ready_file.touch()


if __name__ == "__main__":
    main()
