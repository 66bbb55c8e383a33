"""What the proxy does in a session that runs: keeps its login, answers what must not reach the server. PURE.

    AUTH, HELLO with AUTH   the same user is told +OK, another -WRONGPASS; neither goes upstream
    RESET                   goes upstream behind a fence, followed by a new AUTH whose answer nobody sees
    MONITOR, SYNC, PSYNC, REPLCONF, CLIENT REPLY OFF|SKIP    refused
    WAIT, WAITAOF           refused to a client that has shared a connection before
    a login that grows old  a new AUTH between two commands outside MULTI, whose answer nobody sees

Everything else passes, and upstream's answers are looked at only between a fence and what it waits for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from proxy.engines.redis.fence import Fence
from proxy.engines.redis.login import HelloError, judge_auth, parse_hello
from proxy.engines.redis.refusals import NO_SUCH_LOGIN, REFUSED_COMMANDS, UNSHARED_COMMANDS, refused_command
from proxy.engines.redis.scanner import Scanner, whole_commands
from proxy.engines.redis.wire import Command, encode_command
from proxy.errors import PeerViolation, Refused
from proxy.guard import Answer, Deadline, Drop, Guard, Inject, NeedGrant, Pass, Refuse, Release, Stop, Verdict, Watch
from proxy.script import CLIENT
from tollbridge.reasons import Reason

AT_ONCE: Final = datetime.min.replace(tzinfo=UTC)

RENEW_FROM, RENEW_SPREAD = 0.75, 0.15
"""A login is renewed at this share of its life, and up to so much later, so that sessions do not all do it at once."""
RETRY_SHARE: Final = 0.02
"""Between two tries: a quarter of an hour of twelve."""
CUT_SHARE, CUT_SECONDS = 0.02, 60.0
"""A session ends this share of its login's life before the server would cut it, and at most so long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a login is renewed, and when it is over if it could not be."""

    life_seconds: float
    spread: float
    """0 to 1: how far into RENEW_SPREAD."""
    since: datetime
    """No later than the server accepted the login."""
    tries: int = 0

    @property
    def renew_at(self) -> datetime:
        """The next try."""
        share = RENEW_FROM + RENEW_SPREAD * self.spread + RETRY_SHARE * self.tries
        return self.since + timedelta(seconds=self.life_seconds * share)

    @property
    def cut_at(self) -> datetime:
        """The end."""
        return self.since + timedelta(seconds=self.life_seconds - min(CUT_SECONDS, CUT_SHARE * self.life_seconds))

    def renewed(self) -> Schedule:
        """After the try of `renew_at` has succeeded."""
        return replace(self, since=self.renew_at, tries=0)

    def failed(self) -> Schedule:
        """After it has not."""
        return replace(self, tries=self.tries + 1)

    def verdicts(self) -> tuple[Verdict, Verdict]:
        """For the relay."""
        message = (
            f"the login was at its limit of {self.life_seconds:g} s and could not be renewed: the session was "
            "subscribed in RESP2, blocked or in MULTI when it was tried: connect again"
        )
        return NeedGrant(self.renew_at), Deadline(self.cut_at, Refused(Reason.SESSION_TOO_LONG, message))


class _Waits(Enum):
    """What the fence that stands is for."""

    ANSWER = "the proxy answers a command"
    RENEWAL = "the login is renewed"
    RESET = "the client has reset the session"


class RedisGuard(Guard):
    """One session."""

    watches_upstream = False

    def __init__(
        self, *, names: frozenset[bytes], default: bool, schedule: Schedule, seed: bytes, shared: bool = False
    ) -> None:
        """`names`: what the session's user is called. `default`: AUTH without a user means this one.
        `seed`: unpredictable. `shared`: what the client has written before may have gone over another connection."""
        self._names = names
        self._default = default
        self._schedule = schedule
        self._seed = seed
        self._refused = REFUSED_COMMANDS | UNSHARED_COMMANDS if shared else REFUSED_COMMANDS
        self._scanner = Scanner()
        self._head = b""
        """Begin of a command that cannot be named yet; the server has not seen it."""
        self._multi = False
        self._tied = False
        """The last command is about the next one: nothing may come between."""
        self._fence: Fence | None = None
        self._waits = _Waits.ANSWER
        self._wants_reset = False
        self._fresh: tuple[bytes, bytes] | None = None
        """A credential for the next renewal."""
        self._clear = True
        """Nothing is under way: whole commands may pass."""

    def start(self) -> Sequence[Verdict]:
        return self._schedule.verdicts()

    def passes(self, data: bytes) -> bool:
        return self._clear and whole_commands(data) is not None

    def gate(self) -> Callable[[bytes], object] | None:
        return whole_commands if self._clear else None

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        return self._guarding(data, self._client)

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        return self._guarding(data, self._upstream)

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        self._fresh = (user.encode(), password.encode())
        if self._wants_reset:
            verdicts = self._reset()
        elif self._may_renew:
            verdicts = [*self._renew(), Stop(CLIENT)]
        else:
            verdicts = []
        self._settle()
        return verdicts

    @property
    def _may_renew(self) -> bool:
        inside = self._multi or self._tied
        at_a_safe_point = self._scanner.between_commands and not inside and not self._wants_reset
        return self._fresh is not None and self._fence is None and at_a_safe_point

    def _settle(self) -> None:
        self._clear = self._scanner.between_commands and not self._head and self._fresh is None and not self._tied

    def _guarding(self, data: bytes, decide: Callable[[bytes], list[Verdict]]) -> list[Verdict]:
        try:
            verdicts = decide(data)
        except PeerViolation as violation:
            return [Drop(len(data)), Refuse(violation.as_refusal())]
        self._settle()
        return verdicts

    def _client(self, data: bytes) -> list[Verdict]:
        """Pass commands on, up to the first that has to wait for its turn."""
        known = len(self._head)
        chunk = self._head + data
        at = 0
        onward: list[bytes] = []
        then: list[Verdict] = []
        while not then:
            if self._may_renew:
                then = self._renew()
                break
            end, command = self._scanner.advance(chunk, at, pause=self._fresh is not None and not self._multi)
            self._tied = self._tied and at == end and command is None
            onward.append(chunk[at:end])
            at = end
            if command is None:
                if self._may_renew:
                    continue
                break
            at = command.end
            decided = self._decide(command, chunk[end:at])
            if isinstance(decided, bytes):
                onward.append(decided)
            else:
                then = decided
        if then:
            # What is behind stays unseen; a head that the server has not got is kept as it is.
            taken = max(at, known)
            self._head = chunk[at:taken]
            return [Inject(b"".join(onward)), Drop(taken - known), *then, Stop(CLIENT)]
        self._head = chunk[at:]
        passed = b"".join(onward)
        return [Pass(len(data))] if passed == data else [Inject(passed), Drop(len(data))]

    def _decide(self, command: Command, said: bytes) -> bytes | list[Verdict]:
        """A watched command -> what upstream gets in its place, or what happens before anything else does."""
        name, arguments = command.name, command.arguments
        match name:
            case b"multi" if len(arguments) == 1:
                self._multi = True
            case b"exec" | b"discard" if len(arguments) == 1:
                self._multi = False
            case b"auth":
                return self._answer(self._judge_auth(arguments))
            case b"hello":
                return self._hello(arguments, said)
            case b"reset" if len(arguments) == 1:
                self._multi = False
                self._wants_reset = True
                return [NeedGrant(AT_ONCE)]
            case b"client" if len(arguments) > 1 and arguments[1].lower() == b"caching":
                self._tied = True  # of the next command's keys alone
            case b"client" if len(arguments) > 2 and arguments[1].lower() == b"reply":
                if arguments[2].lower() != b"on":
                    return self._answer(refused_command(b"client reply"))
            case _ if name in self._refused:
                return self._answer(refused_command(name))
        return said

    def _judge_auth(self, arguments: Sequence[bytes]) -> bytes:
        if self._multi:
            return b"-ERR AUTH is not allowed in transactions\r\n"
        return judge_auth(arguments, names=self._names, default=self._default)

    def _hello(self, arguments: Sequence[bytes], said: bytes) -> bytes | list[Verdict]:
        """HELLO goes on without its AUTH: only the protocol version and the connection's name change."""
        try:
            hello = parse_hello(arguments)
        except HelloError as error:
            return self._answer(error.line)
        if hello.user is None:
            return said
        if hello.user not in self._names:
            return self._answer(NO_SUCH_LOGIN)
        return encode_command(*hello.without_login())

    # Fences

    def _raise(self, waits: _Waits, behind: bytes = b"", **what: int | bytes) -> list[Verdict]:
        self._seed = hashlib.sha256(self._seed).digest()
        word = hashlib.sha256(b"fence" + self._seed).hexdigest()[:32].encode()
        self._fence, self._waits = Fence(word, **what), waits  # type: ignore[arg-type]
        return [Inject(self._fence.command + behind), Watch(True)]

    def _answer(self, said: bytes) -> list[Verdict]:
        return self._raise(_Waits.ANSWER, answer=said)

    def _auth(self) -> bytes:
        user, password = self._fresh or (b"", b"")
        self._fresh = None
        return encode_command(b"AUTH", user, password)

    def _renew(self) -> list[Verdict]:
        return self._raise(_Waits.RENEWAL, self._auth(), swallowing=1)

    def _reset(self) -> list[Verdict]:
        self._wants_reset = False
        return self._raise(_Waits.RESET, encode_command(b"RESET") + self._auth(), passing=1, swallowing=1)

    def _upstream(self, data: bytes) -> list[Verdict]:
        fence = self._fence
        if fence is None:
            return [Pass(len(data)), Watch(False)]
        heard = fence.feed(data)
        verdicts: list[Verdict] = [Pass(len(data))] if heard == data else [Answer(heard), Drop(len(data))]
        if not fence.done:
            return verdicts
        self._fence = None
        verdicts += self._after(self._waits, accepted=fence.swallowed.startswith(b"+OK"))
        if self._fence is None:
            verdicts += [Watch(False), Release(CLIENT)]
        return verdicts

    def _after(self, waits: _Waits, *, accepted: bool) -> list[Verdict]:
        """A fence has fallen: what it brought."""
        if waits is _Waits.RESET:
            if not accepted:
                message = "the database refused the login behind a RESET: connect again"
                return [Refuse(Refused(Reason.DATABASE_REFUSED, message))]
            return [*self._schedule.verdicts()]
        if waits is _Waits.RENEWAL:
            self._schedule = self._schedule.renewed() if accepted else self._schedule.failed()
            return [*self._schedule.verdicts()]
        return self._renew() if self._may_renew else []
