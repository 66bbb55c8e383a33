"""Ports for servers that start later: two pytest workers side by side must not be given the same one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.sandbox.commands import free_port

ROOT = Path(__file__).parents[3]
TAKES = "from deploy.sandbox.commands import free_port; print(*(free_port() for _ in range(400)), flush=True); input()"


def test_what_one_process_was_given_no_other_is_while_it_lives() -> None:
    """Although nobody listens on it yet."""
    other = subprocess.Popen([sys.executable, "-c", TAKES], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        ours = [free_port() for _ in range(1500)]
    finally:
        other.communicate(b"\n")
    assert len(theirs) == 400
    assert len(set(ours)) == len(ours), "none twice"
    assert not theirs & set(ours)
    assert max(ours) < 32768, "none that an outgoing connection could have"
