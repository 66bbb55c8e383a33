"""What a client's login ends in: a connection of its own, or a part in one that it shares. PURE."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from proxy.engines.redis.guard import RedisGuard, Schedule
from proxy.engines.redis.login import Hello
from proxy.engines.redis.refusals import UpstreamError, encode
from proxy.engines.redis.replies import RedisAnswers
from proxy.engines.redis.sharing import BAD_NAME, RedisSharer, is_name
from proxy.engines.redis.upstream import Request, enter
from proxy.model import Door, Established, Shared
from proxy.multiplex import SharedLogin
from proxy.script import Script, note, random_bytes, request_grant, share

LOGIN_SECONDS: Final = 12 * 3600.0
"""How long ElastiCache and MemoryDB let an IAM login live before it must be renewed."""
SEED_BYTES: Final = 32


def alone(door: Door, request: Request, login: str, *, shared: bool = False) -> Script[tuple[bytes, Established]]:
    """A connection of its own, and what the server said to its login. `login`: the user as the client wrote it.
    `shared`: the client has used another before."""
    entered = yield from enter(request)
    seed = yield from random_bytes(SEED_BYTES)
    guard = RedisGuard(
        names=_names(login, request.db_user, entered.user),
        default=request.db_user == door.db_user,
        schedule=_schedule(door, seed, since=entered.since),
        seed=seed,
        shared=shared,
    )
    return entered.reply, Established(farewell=encode, at_rest=ends_a_line, guard=guard)


def together(door: Door, request: Request, login: str) -> Script[tuple[bytes, Shared]]:
    """A part in a connection with others of the same protocol version, and what the server said to its HELLO.

    The client is permitted for itself, whoever made the connection.
    """
    hello = request.hello or Hello(version=None, user=None, name=None)
    version = hello.version or b"2"
    grant = yield from request_grant(
        workload=request.workload, database=request.database, db_user=request.db_user, db_name=""
    )
    if hello.name is not None and not is_name(hello.name):
        raise UpstreamError(BAD_NAME)
    # Another listener may renew its logins at other times.
    kind = f"RESP{version.decode()}, {_life(door):g} s"
    shared = yield from share(grant, kind=kind, log_in=lambda: _log_in(door, request, version))
    yield from note("multiplexed", "yes")
    sharer = RedisSharer(
        version=version,
        greeting=shared.greeting,
        names=_names(login, request.db_user, shared.user),
        default=request.db_user == door.db_user,
        name=hello.name,
    )

    def pin(used: bool) -> Script[Established]:
        own = Hello(version=version, user=None, name=sharer.name)
        says_hello = version == b"3" or sharer.name is not None
        _, session = yield from alone(door, replace(request, hello=own if says_hello else None), login, shared=used)
        return session

    return shared.greeting, Shared(sharer=sharer, farewell=encode, pin=pin)


def ends_a_line(tail: bytes) -> bool:
    """Whether a goodbye can follow. Inside a value that happens to end so it would be a part of it, and the value
    would never be complete: no client takes it for one."""
    return not tail or tail.endswith(b"\r\n")


def _log_in(door: Door, request: Request, version: bytes) -> Script[SharedLogin]:
    """The login that many will share. It is never renewed: long before its end it takes no further commands."""
    entered = yield from enter(replace(request, hello=Hello(version=version, user=None, name=None)))
    seed = yield from random_bytes(SEED_BYTES)
    return SharedLogin(
        answers=RedisAnswers(pushes=version == b"3"),
        user=entered.user,
        greeting=entered.reply,
        retire_at=_schedule(door, seed, since=entered.since).renew_at,
    )


def _names(*names: str) -> frozenset[bytes]:
    return frozenset(name.encode() for name in names if name)


def _schedule(door: Door, seed: bytes, *, since: datetime) -> Schedule:
    return Schedule(life_seconds=_life(door), spread=seed[0] / 255, since=since)


def _life(door: Door) -> float:
    return door.login_seconds or LOGIN_SECONDS
