"""Follows the configuration file: at SIGHUP, and when its content changes, it is read anew.

A file with an error changes nothing: the previous configuration stays in force, and log, metrics and /readyz say so.
What cannot be changed while the broker runs (listeners, its own identity, limits, the registry's place) is named in a
warning and waits for a restart; everything else of the same file is put in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.inforce import InForce
from broker.settings import Derived, Settings, derive
from tollbridge.process.settings import Loaded, SettingsError

POLL_SECONDS: Final = 2.0
AT_START_ONLY: Final = ("aws", "registry", "listeners", "admin", "audit", "log", "limits")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Where settings come from."""

    path: Path
    load: Callable[[], Loaded[Settings]]
    """Reads and judges the file. Raises SettingsError."""

    def follow(self, in_force: InForce) -> Reload:
        """Keep that at what the file says."""
        return Reload(self.path, self.load, in_force)


class Reload:
    """Keeps an `InForce` at what its file says."""

    def __init__(
        self,
        path: Path,
        load: Callable[[], Loaded[Settings]],
        in_force: InForce,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`load` reads and judges the file; raises SettingsError."""
        self._path = path
        self._load = load
        self._in_force = in_force
        self._sleep = sleep
        self._seen = self._digest()
        self._asked = False
        self.reloads = 0
        """Configurations put in force since start."""
        self.rejected = 0
        """Configurations that had errors."""
        self.trouble = ""
        """Why the file on disk is not in force; empty when it is."""

    def request(self) -> None:
        """Read the file anew at the next look, whether it changed or not: files it names may have. For SIGHUP."""
        self._asked = True

    async def run(self) -> None:
        """Look at the file until cancelled."""
        while True:
            await self._sleep(POLL_SECONDS if not self._asked else 0)
            await self.look()

    async def look(self) -> bool:
        """Look once. True: another configuration is in force."""
        digest = await asyncio.to_thread(self._digest)
        if not self._asked and digest == self._seen:
            return False
        self._asked = False
        try:
            loaded, derived = await asyncio.to_thread(self._read)
        except SettingsError as error:
            # Not taken for seen: what is wrong may be in a file that it names.
            self._seen = ""
            self._reject(error)
            return False
        self._seen = digest
        for warning in loaded.warnings:
            _log.warning("%s: %s", self._path, warning)
        self.trouble = self._waiting(loaded.value)
        if self.trouble:
            _log.warning("%s", self.trouble)
        try:
            await self._in_force.replace(loaded.value, derived)
        except Exception:  # noqa: BLE001 - what follows from it is everywhere; a broker that ended would serve nobody
            _log.exception("%s could not be put in force whole: restart this broker", self._path)
            self.trouble = f"{self._path} could not be put in force whole: the log has the details"
            return False
        self.reloads += 1
        _log.info("%s is in force, policy version %s", self._path, derived.policy.version)
        return True

    def _reject(self, error: SettingsError) -> None:
        count = f"{len(error.problems)} problem{'' if len(error.problems) == 1 else 's'}"
        trouble = f"{self._path} has {count} and is not in force: {error.problems[0]}"
        if trouble == self.trouble:
            return
        self.trouble = trouble
        self.rejected += 1
        for problem in error.problems:
            _log.error("%s is not put in force: %s", self._path, problem)
        _log.error("%s: the previous configuration stays in force until these are mended", self._path)

    def _read(self) -> tuple[Loaded[Settings], Derived]:
        loaded = self._load()
        return loaded, derive(loaded.value)

    def _waiting(self, settings: Settings) -> str:
        before = self._in_force.started_with
        changed = [name for name in AT_START_ONLY if getattr(settings, name) != getattr(before, name)]
        if settings.discovery.at_start_only != before.discovery.at_start_only:
            changed.append("discovery (but iam_auth_changes)")
        if settings.keeps_a_registry and not before.keeps_a_registry:
            changed.append("db_service.resources or db_service.aws, for the first time")
        return f"{self._path}: {', '.join(changed)} changed: a restart is needed for that" if changed else ""

    def _digest(self) -> str:
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError:
            # A file that is being replaced may be away for a moment; one that stays away says so when it is read.
            return "unreadable"
