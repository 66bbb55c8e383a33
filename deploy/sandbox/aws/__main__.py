"""The AWS process of one sandbox: ``python -m aws SETTINGS.json``.

Settings: ``verify_socket``; ``http_socket``, where the TLS of AWS's hosts comes in; ``ready_file``, written with the
port once it listens; ``targets``, login service -> ``tokens.Target``; ``warehouses``, a list of
``redshift.Warehouse``; ``psql``, the program that makes their users; ``inventory``, the resources that describe calls
tell of; ``search``, a list of ``search.Door``; ``machine_role_arn``, whose sessions the metadata services hand out;
``orphaned_command``, run once if the process that started us dies (null to outlive it).
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import clock

HTTP_BACKLOG = 1024
LOGIN_BACKLOG = 1024
PARENT_POLL_SECONDS = 0.5


def main() -> None:
    clock.install()
    settings = json.loads(Path(sys.argv[1]).read_text())
    logging.basicConfig(level=logging.WARNING)
    listener = socket.create_server(("127.0.0.1", 0), backlog=HTTP_BACKLOG)
    port = listener.getsockname()[1]
    # ministack reads these when it is imported.
    os.environ.update(AUTH="true", BIND_HOST="127.0.0.1", GATEWAY_PORT=str(port), SFTP_ENABLED="0", LOG_LEVEL="WARNING")
    asyncio.run(_serve(settings, listener, port))


async def _serve(settings: dict[str, Any], listener: socket.socket, port: int) -> None:
    from hypercorn.asyncio import serve  # type: ignore[import-not-found, unused-ignore]
    from hypercorn.config import Config  # type: ignore[import-not-found, unused-ignore]

    from . import emulator
    from .gateway import Gateway
    from .inventory import Inventory
    from .logins import LoginJudge
    from .redshift import Redshift, Warehouse
    from .search import Door, Search
    from .tokens import Target

    emulator.install(settings["machine_role_arn"])
    judge = LoginJudge({service: Target(**target) for service, target in settings["targets"].items()})
    redshift = Redshift([Warehouse(**warehouse) for warehouse in settings["warehouses"]], settings["psql"])
    search = Search([Door(**door) for door in settings["search"]], judge.note)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = Config()
    behind_tls = _listen(settings["http_socket"])
    config.bind = [f"fd://{listener.detach()}", f"fd://{behind_tls.detach()}"]
    config.backlog = HTTP_BACKLOG
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.2
    config.loglevel = "warning"
    verifier = await asyncio.start_unix_server(judge.answer, settings["verify_socket"], backlog=LOGIN_BACKLOG)
    _open_to_everyone(settings["verify_socket"])
    async with verifier, asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(_watch_parent(settings["orphaned_command"]), name="parent-watch")
        _write_ready(Path(settings["ready_file"]), port)
        gateway = Gateway(judge, redshift, search, Inventory(settings["inventory"]))
        await serve(gateway, config, shutdown_trigger=stop.wait)
        watch.cancel()


async def _watch_parent(orphaned_command: list[str] | None) -> None:
    """A test run that is killed must not leave servers behind: have them stopped, this process included."""
    parent = os.getppid()
    while orphaned_command is not None:
        await asyncio.sleep(PARENT_POLL_SECONDS)
        if os.getppid() != parent:
            _start(orphaned_command)
            return


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    _open_to_everyone(path)
    listener.listen(HTTP_BACKLOG)
    return listener


def _open_to_everyone(path: str) -> None:
    # The database servers run as another user.
    Path(path).chmod(0o666)


def _start(command: list[str]) -> None:
    # In a session of its own: it will stop this process before it is done.
    subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _write_ready(ready_file: Path, port: int) -> None:
    draft = ready_file.with_suffix(".tmp")
    draft.write_text(json.dumps({"port": port}))
    draft.replace(ready_file)


if __name__ == "__main__":
    main()
