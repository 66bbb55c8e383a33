"""`python -m deploy.demo [--once] [--products NAME,...]`: exit 0 when every step came true, 1 otherwise."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from deploy.demo.narrator import Narrator
from deploy.demo.story import Story, add_broken_databases
from deploy.demo.tours import TOURS, Guide
from deploy.sandbox import MissingEngine, Sandbox, SandboxError
from deploy.sandbox.bridge import Bridge

PRODUCTS = ("postgres", *TOURS)
OTHER_NAMES = {
    "postgresql": "postgres",
    "mysql": "mariadb",
    "redis": "valkey",
    "elasticache": "valkey",
    "keyspaces": "cassandra",
    "documentdb": "mongodb",
    "docdb": "mongodb",
}
"""What people call what a tour shows."""
DEFAULT_PRODUCTS = ("postgres", "mariadb", "valkey", "dynamodb", "opensearch")


def main() -> int:
    """Set up, tell the story, stay up until Ctrl-C unless told otherwise, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the story instead of staying up")
    parser.add_argument(
        "--products",
        default=",".join(DEFAULT_PRODUCTS),
        help=f"which databases to tour, of {', '.join(PRODUCTS)} (default: %(default)s)",
    )
    arguments = parser.parse_args()
    products = chosen(arguments.products)
    if unknown := [name for name in products if name not in PRODUCTS]:
        parser.error(f"no tour of {', '.join(unknown)}: there are {', '.join(PRODUCTS)}")
    if not products:
        parser.error(f"--products is a comma-separated list of {', '.join(PRODUCTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    narrator = Narrator()
    try:
        with tempfile.TemporaryDirectory(prefix="tollbridge-demo-") as directory:
            return run(Path(directory), narrator, products, once=arguments.once)
    except (MissingEngine, SandboxError) as error:
        narrator.say(f"demo: {error}")
        if isinstance(error, MissingEngine) and products != ("postgres",):
            narrator.say("Or tour less: make demo PRODUCTS=postgres")
        return 1
    except KeyboardInterrupt:
        narrator.say("\nstopped; everything the demo started is gone")
        return 0 if not narrator.failures else 1


def chosen(text: str) -> tuple[str, ...]:
    """The tours that a list of names asks for, each once."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(OTHER_NAMES.get(name, name) for name in names))


def run(directory: Path, narrator: Narrator, products: tuple[str, ...], *, once: bool) -> int:
    """The demo proper, in a directory of its own."""
    narrator.say("Two AWS accounts on this machine: 111111111111 runs the broker, 222222222222 owns the databases.")
    narrator.progress(f"starting the AWS emulator and the servers of {', '.join(products)}")
    # PostgreSQL is always there: the configuration on show is its.
    with Sandbox(directory / "sandbox", engine_names={"postgres", *products}) as world:
        bridge = Bridge(world, directory / "bridge", change_broker=add_broken_databases)
        narrator.progress("starting the broker and the proxy")
        with bridge:
            story = Story(bridge, narrator)
            guide = Guide(bridge, narrator)
            for product in products:
                if product == "postgres":
                    story.tell()
                else:
                    guide.show(product)
            narrator.say()
            if narrator.failures:
                narrator.say(f"{len(narrator.failures)} step(s) did not come true: {'; '.join(narrator.failures)}")
            if once:
                return 1 if narrator.failures else 0
            narrator.say("Try it yourself, in another terminal:")
            own = (story.psql_line(), story.python_line(), story.mtls_line()) if "postgres" in products else ()
            lines = (*own, *(guide.line(product) for product in products if product != "postgres"))
            for line in filter(None, lines):
                narrator.say(f"\n    {line}")
            story.write_operator_file()
            narrator.say("\nThe same as the operator sees it:\n")
            for line in story.operator_lines():
                narrator.say(f"    {line}")
            narrator.say(f"\nLogs, audit lines and configuration: {bridge.directory}")
            narrator.say("Ctrl-C stops everything.")
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
