"""The audit log: one JSON line when a session starts, when it ends, and when a connection is refused.

    session.start    who, from where, into what, under which decision, reused or fresh
    session.end      how it ended, for how long, how many bytes
    session.refused  the reason and the message the client got
    request          of services that are asked over HTTP, where `audit_requests` is set: what, its answer's status, how
                     many bytes, how long

Lines join the broker's on `decision_id`. No field holds a secret: what an engine notes and what a client calls itself
is bounded here, and passwords never reach this module.

Writing happens on a thread, behind a bounded queue: a log collector that stands still must not stop the sessions that
run. When the queue is full, new logins are refused rather than left out of the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

from proxy.errors import Refused
from proxy.model import SealedGrant
from proxy.net.events import LoginFacts, RequestDone, SessionEnd, SessionRefusal, SessionStart
from proxy.net.services import Grants
from tollbridge.clock import Clock
from tollbridge.model import Credential, StsChallenge, StsProof
from tollbridge.process.telemetry import (
    CREDENTIAL_ID,
    DATABASE,
    DB_NAME,
    DB_USER,
    DECISION_ID,
    EVENT,
    MESSAGE,
    PEER,
    REASON,
    WORKLOAD,
)
from tollbridge.reasons import Reason

TIME: Final = "time"
"""As in the broker's audit lines, which these are read beside."""
LISTENER: Final = "listener"
UPSTREAM: Final = "upstream"
CLIENT_TLS: Final = "client_tls"
REUSED: Final = "reused"
NOTES: Final = "notes"
LOGIN_SECONDS: Final = "login_seconds"
SECONDS: Final = "seconds"
ENDED_BY: Final = "ended_by"
METHOD: Final = "method"
STATUS: Final = "status"
BYTES_TO_CLIENT: Final = "bytes_to_client"
BYTES_TO_UPSTREAM: Final = "bytes_to_upstream"

SESSION_START: Final = "session.start"
SESSION_END: Final = "session.end"
SESSION_REFUSED: Final = "session.refused"
REQUEST: Final = "request"

MAX_VALUE: Final = 256
"""Characters of a value a client chose: a login name, a note. A workload can be longer: SPIFFE allows 2,048 bytes."""
MAX_WORKLOAD: Final = 2048
MAX_MESSAGE: Final = 1024
MAX_WAITING: Final = 10_000
"""Lines waiting for the writer: some 5 MB, several seconds of the busiest proxy."""

_log = logging.getLogger(__name__)


class Writer:
    """Appends lines to a file, or standard output, from a thread of its own."""

    def __init__(self, path: Path | None, *, limit: int = MAX_WAITING) -> None:
        """Raises OSError when the file cannot be opened."""
        self._path = path
        self._queue: queue.Queue[str | None] = queue.Queue(limit)
        self._file = self._open()
        self._reopen = threading.Event()
        self.lost = 0
        """Lines that could not be queued or written."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether the next line would be lost."""
        return self._queue.full()

    def write(self, line: str) -> None:
        """Queue one line. Never blocks."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.lost += 1

    def reopen(self) -> None:
        """Open the file anew before the next line: it was rotated away."""
        self._reopen.set()

    def close(self, seconds: float = 5.0) -> None:
        """Write what is queued, then close. Gives up after so long."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _open(self) -> TextIO:
        return sys.stdout if self._path is None else self._path.open("a", encoding="utf-8")

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                if self._reopen.is_set():
                    self._reopen.clear()
                    self._renew()
                self._file.write(line + "\n")
                if self._queue.empty():
                    self._file.flush()
            except (OSError, ValueError) as error:  # ValueError: the stream was closed under us
                self.lost += 1
                _log.error("an audit line could not be written: %s", error)
        self._finish()

    def _renew(self) -> None:
        if self._path is not None:
            fresh = self._open()
            self._file.close()
            self._file = fresh

    def _finish(self) -> None:
        try:
            self._file.flush()
        except (OSError, ValueError) as error:
            _log.error("the audit log could not be written to its end: %s", error)
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError):  # its own flush fails as the one above did
                self._file.close()


class AuditLog:
    """Implements `proxy.net`'s `SessionLog` and `RequestLog`."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    def on_start(self, event: SessionStart) -> None:
        """A login succeeded."""
        self._write(SESSION_START, event.facts, {LOGIN_SECONDS: round(event.seconds, 4)})

    def on_end(self, event: SessionEnd) -> None:
        """How a session ended."""
        self._write(
            SESSION_END,
            event.facts,
            {
                ENDED_BY: event.ended,
                REASON: str(event.reason) if event.reason else "",
                MESSAGE: _cut(event.message, MAX_MESSAGE),
                SECONDS: round(event.seconds, 3),
                BYTES_TO_CLIENT: event.bytes_to_client,
                BYTES_TO_UPSTREAM: event.bytes_to_upstream,
            },
        )

    def on_refusal(self, event: SessionRefusal) -> None:
        """Why a connection did not become a session."""
        self._write(
            SESSION_REFUSED,
            event.facts,
            {
                REASON: str(event.reason),
                MESSAGE: _cut(event.message, MAX_MESSAGE),
                LOGIN_SECONDS: round(event.seconds, 4),
            },
        )

    def on_request(self, event: RequestDone) -> None:
        """What was asked, and how it was answered. Never a body."""
        self._write(
            REQUEST,
            event.facts,
            {
                METHOD: event.method,
                **{name: _cut(value, MAX_MESSAGE) for name, value in event.names.items()},
                STATUS: event.status,
                BYTES_TO_CLIENT: event.bytes_to_client,
                BYTES_TO_UPSTREAM: event.bytes_to_upstream,
                SECONDS: round(event.seconds, 4),
            },
        )

    def _write(self, event: str, facts: LoginFacts, more: Mapping[str, object]) -> None:
        line: dict[str, object] = {
            TIME: self._clock.now().isoformat(timespec="milliseconds"),
            EVENT: event,
            PEER: facts.peer,
            LISTENER: facts.door,
            WORKLOAD: _cut(facts.workload, MAX_WORKLOAD),
            DATABASE: _cut(facts.database, MAX_VALUE),
            DB_USER: _cut(facts.db_user, MAX_VALUE),
            DB_NAME: _cut(facts.db_name, MAX_VALUE),
            DECISION_ID: facts.decision_id,
            CREDENTIAL_ID: facts.credential_id,
            REUSED: facts.reused if facts.credential_id else "",
            UPSTREAM: facts.upstream,
            CLIENT_TLS: facts.encrypted,
            **more,
            NOTES: {_cut(key, MAX_VALUE): _cut(value, MAX_VALUE) for key, value in facts.notes.items()},
        }
        present = {key: value for key, value in line.items() if value not in ("", {})}
        self._writer.write(json.dumps(present))  # ASCII: a name that is no valid text can still be written


class AuditedGrants:
    """Grants for as long as the session they lead to can be written down. Implements `proxy.net`'s `Grants`."""

    def __init__(self, grants: Grants, writer: Writer) -> None:
        self._grants = grants
        self._writer = writer

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """As the grants behind it. Raises Refused also while the audit log stands still."""
        self._check()
        return await self._grants.request(
            workload=workload, database=database, db_user=db_user, db_name=db_name, rejected=rejected
        )

    async def sign_challenge(
        self, *, workload: str, database: str, db_user: str, db_name: str, challenge: StsChallenge
    ) -> StsProof:
        """As the grants behind it. Raises Refused also while the audit log stands still."""
        self._check()
        return await self._grants.sign_challenge(
            workload=workload, database=database, db_user=db_user, db_name=db_name, challenge=challenge
        )

    def _check(self) -> None:
        if self._writer.full:
            raise Refused(
                Reason.INTERNAL,
                "the audit log of this proxy cannot be written, so it lets nobody in: have its operator look at the "
                "disk or the log collector",
            )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
