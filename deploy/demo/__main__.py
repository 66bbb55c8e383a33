"""`python -m deploy.demo [--once]`: exit 0 when every step of the story came true, 1 otherwise."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from deploy.demo.narrator import Narrator
from deploy.demo.story import Story, add_broken_databases
from deploy.sandbox import MissingEngine, Sandbox, SandboxError
from deploy.sandbox.bridge import Bridge


def main() -> int:
    """Set up, tell the story, stay up until Ctrl-C unless told otherwise, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the story instead of staying up")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    narrator = Narrator()
    try:
        with tempfile.TemporaryDirectory(prefix="tollbridge-demo-") as directory:
            return run(Path(directory), narrator, once=arguments.once)
    except (MissingEngine, SandboxError) as error:
        narrator.say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        narrator.say("\nstopped; everything the demo started is gone")
        return 0 if not narrator.failures else 1


def run(directory: Path, narrator: Narrator, *, once: bool) -> int:
    """The demo proper, in a directory of its own."""
    narrator.say("Two AWS accounts on this machine: 111111111111 runs the broker, 222222222222 owns a PostgreSQL.")
    narrator.progress("starting the AWS emulator and PostgreSQL servers")
    with Sandbox(directory / "sandbox") as world:
        bridge = Bridge(world, directory / "bridge", change_broker=add_broken_databases)
        narrator.progress("starting the broker and the proxy")
        with bridge:
            story = Story(bridge, narrator)
            story.tell()
            narrator.say()
            if narrator.failures:
                narrator.say(f"{len(narrator.failures)} step(s) did not come true: {'; '.join(narrator.failures)}")
            if once:
                return 1 if narrator.failures else 0
            narrator.say("Try it yourself, in another terminal:")
            for line in (story.psql_line(), story.python_line(), story.mtls_line()):
                narrator.say(f"\n    {line}")
            narrator.say(f"\nLogs, audit lines and configuration: {bridge.directory}")
            narrator.say("Ctrl-C stops everything.")
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
