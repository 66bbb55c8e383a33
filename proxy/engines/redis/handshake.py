"""The client half of a login: TLS or none, who logs in, and what may be said before anybody has. PURE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from proxy.engines.redis.login import Hello, HelloError, parse_hello
from proxy.engines.redis.refusals import OK
from proxy.engines.redis.session import alone, together
from proxy.engines.redis.upstream import Request
from proxy.engines.redis.wire import COMMAND_LIMIT, CommandReader, read_name
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Finished, Outcome, PeerFacts, Target
from proxy.script import CLIENT, Script, buffered, peek, receive, send, start_tls
from tollbridge.reasons import Reason

T = TypeVar("T")

TLS_RECORD_HANDSHAKE: Final = b"\x16"
"""First byte of a ClientHello; no command begins with it."""
PATIENCE: Final = 32
"""Commands that a client may say before it logs in."""

NOAUTH: Final = b"-NOAUTH Authentication required.\r\n"
HELLO_NOAUTH: Final = (
    b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> "
    b"<pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n"
)

_ANSWERED: Final = frozenset({b"", b"auth", b"hello", b"quit"})
"""What does not start a login by being said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a client came in."""

    target: Target
    login: str
    """The user as it was typed; empty where the listener's is meant."""
    hello: Hello | None = None
    says_ok: bool = False
    """It said AUTH, and waits for +OK."""


def open_connection(door: Door) -> Script[PeerFacts | None]:
    """TLS with the client, if it begins with that. Returns its facts; None in plaintext."""
    if (yield from peek(CLIENT, 1)) != TLS_RECORD_HANDSHAKE:
        if door.tls_required:
            raise Refused(Reason.CLIENT_TLS_REQUIRED, f"listener {door.name!r} takes no plaintext: connect with TLS")
        return None
    if not door.tls_available:
        raise Refused(Reason.FEATURE_REFUSED, f"listener {door.name!r} has no TLS: connect without it (redis://)")
    return (yield from start_tls(CLIENT))


def establish(door: Door, facts: PeerFacts | None) -> Script[Outcome]:
    """From the client's first command to a login upstream; the first command that is none is left for the relay."""
    opening = yield from read_opening(door, facts)
    if opening is None:
        return Finished()
    target = opening.target
    request = Request(
        workload=door.workload_of(facts), database=target.database, db_user=target.db_user, hello=opening.hello
    )
    join = together if door.multiplex else alone
    reply, session = yield from join(door, request, opening.login)
    if opening.hello is not None:
        yield from send(CLIENT, reply)
    elif opening.says_ok:
        yield from send(CLIENT, OK)
    return session


def read_opening(door: Door, facts: PeerFacts | None) -> Script[Opening | None]:
    """Answer what can be answered without a login, up to what asks for one. None: the client has left with QUIT."""
    default = _default_target(door, facts)
    for _ in range(PATIENCE):
        name = yield from _peek(read_name)
        if default is not None and name not in _ANSWERED:
            return Opening(target=default, login="")
        command = yield from _peek(CommandReader().read)
        arguments = command.arguments
        if name in (b"auth", b"hello"):
            yield from receive(CLIENT, command.end)
            opening = _judge_auth(door, facts, arguments) if name == b"auth" else _judge_hello(door, facts, arguments)
            if isinstance(opening, Opening):
                return opening
            yield from send(CLIENT, opening)
        elif name == b"quit":
            yield from receive(CLIENT, command.end)
            yield from send(CLIENT, OK)
            return None
        else:
            yield from receive(CLIENT, command.end)
            answer = b"+RESET\r\n" if name == b"reset" else NOAUTH if name else b""
            yield from send(CLIENT, answer)
    raise PeerViolation(CLIENT, f"{PATIENCE} commands and none of them AUTH")


def _peek(parse: Callable[[bytes], T | None]) -> Script[T]:
    """What parse makes of the bytes that the client has sent, as soon as it can; they are left in place."""
    wanted = 1
    while True:
        there = min(max(wanted, (yield from buffered(CLIENT))), COMMAND_LIMIT)
        found = parse((yield from peek(CLIENT, there)))
        if found is not None:
            return found
        wanted = there + 1
        if wanted > COMMAND_LIMIT:
            raise PeerViolation(CLIENT, f"a command of over {COMMAND_LIMIT} bytes before any login")


def _default_target(door: Door, facts: PeerFacts | None) -> Target | None:
    """Where clients go that name nobody: the listener says the user, and it or the server name the database."""
    if door.db_user is None or door.fixed_database(facts) is None:
        return None
    return door.route("", facts)


def _judge_auth(door: Door, facts: PeerFacts | None, arguments: tuple[bytes, ...]) -> Opening | bytes:
    """AUTH as a way in, or the answer to one that is none. What stands for a password is not looked at."""
    if len(arguments) not in (2, 3):
        return b"-ERR wrong number of arguments for 'auth' command\r\n"
    default = _default_target(door, facts)
    if len(arguments) == 2:
        if default is None:
            return b"-WRONGPASS name a user: AUTH USER PASSWORD, where any password will do\r\n"
        return Opening(target=default, login="", says_ok=True)
    login = _text(arguments[1])
    return Opening(target=door.route(login, facts), login=login, says_ok=True)


def _judge_hello(door: Door, facts: PeerFacts | None, arguments: tuple[bytes, ...]) -> Opening | bytes:
    """HELLO as a way in, or the answer to one that is none."""
    try:
        hello = parse_hello(arguments)
    except HelloError as error:
        return error.line
    if hello.user is not None:
        login = _text(hello.user)
        return Opening(target=door.route(login, facts), login=login, hello=hello)
    default = _default_target(door, facts)
    if default is None:
        return HELLO_NOAUTH
    return Opening(target=default, login="", hello=hello)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise PeerViolation(CLIENT, "a user name that is not UTF-8") from error
