"""What is wrong with the files that a configuration names: both daemons say it alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tollbridge.process.lifecycle import SystemClock
from tollbridge.process.settings import Finding, Section
from tollbridge.process.tls import CertificateFacts


def unreadable(section: Section, *keys: str) -> list[Finding]:
    """Those of its files that are named and cannot be read."""
    paths = {key: getattr(section, key) for key in keys}
    return [
        Finding(section.at(key), f"{path} does not exist or cannot be read")
        for key, path in paths.items()
        if path is not None and not os.access(path, os.R_OK)
    ]


def expired(section: Section, cert_file: Path, facts: CertificateFacts) -> Iterator[Finding]:
    """A warning: it may be replaced before anything is served."""
    if facts.expires_at_seconds <= SystemClock().now().timestamp():
        message = f"{cert_file} expired at {facts.expires_at}"
        yield Finding(section.at("cert_file"), message, "issue a new one", warning=True)


def unwritable(section: Section, key: str, file: Path, hint: str) -> Iterator[Finding]:
    """No file can be made in its directory."""
    if not os.access(file.parent, os.W_OK | os.X_OK):
        yield Finding(section.at(key), f"directory {file.parent} does not exist or cannot be written to", hint)
