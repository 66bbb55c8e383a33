"""The Redis guard, whatever is said and however it is cut: every command one reply, in order, and no secret word."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.redis.refusals import NO_SUCH_LOGIN, refused_command
from proxy.engines.redis.scanner import WATCHED, Scanner, whole_commands
from proxy.engines.redis.wire import encode_command
from proxy.errors import PeerViolation
from tests.support.redis_session import RedisSession, echo, parse

AUTH_INSIDE = encode_command(b"AUTH", b"evil", b"x")
values = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"", b"\r\n", AUTH_INSIDE, b"\r\n" + AUTH_INSIDE, b"*1\r\n$7\r\nMONITOR\r\n", b"-ERR x", b"\r\n-"]
    ),
    st.integers(190, 2100).map(lambda size: b"v" * size),
)
plain = st.builds(
    lambda name, rest: [name, *rest],
    st.sampled_from([b"GET", b"set", b"EVALSHA", b"x" * 70, b"AUTHX", b"", b"BLPOP"]),
    st.lists(values, max_size=8),
)
watched = st.sampled_from(
    [
        [b"AUTH", b"app", b"pw"],
        [b"auth", b"other", b"pw"],
        [b"AUTH", b"pw"],
        [b"Monitor"],
        [b"client", b"REPLY", b"off"],
        [b"CLIENT", b"SETNAME", b"me"],
        [b"HELLO", b"3"],
        [b"HELLO", b"3", b"AUTH", b"app", b"pw", b"SETNAME", b"n"],
        [b"HELLO", b"3", b"AUTH", b"other", b"pw"],
        [b"PSYNC", b"?", b"-1"],
        [b"WAIT", b"1", b"0"],
        [b"RESET"],
        [b"MULTI"],
        [b"EXEC"],
    ]
)
commands = st.lists(st.one_of(plain, watched), min_size=1, max_size=8)


def cutter(draw: st.DataObject) -> Callable[[bytes], Iterable[bytes]]:
    """Pieces of any size."""

    def cut(data: bytes) -> list[bytes]:
        at = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=6)) | {0, len(data)})
        return [piece for a, b in itertools.pairwise(at) if (piece := data[a:b])]

    return cut


def expected(said: list[list[bytes]], *, shared: bool) -> bytes:
    """What the client must hear."""
    replies = []
    multi = False
    for words in said:
        name = words[0].lower()
        multi = {b"multi": True, b"exec": False, b"reset": False}.get(name, multi)
        match [name, *words[1:]]:
            case [b"auth", *_] if multi:
                replies.append(b"-ERR AUTH is not allowed in transactions\r\n")
            case [b"auth", b"app", _] | [b"auth", b"pw"]:
                replies.append(b"+OK\r\n")
            case [b"auth", *_] | [b"hello", _, b"AUTH", b"other", _]:
                replies.append(NO_SUCH_LOGIN)
            case [b"hello", _, b"AUTH", b"app", _, *rest]:
                replies.append(echo([b"HELLO", words[1], *rest]))
            case [b"monitor"] | [b"psync", *_]:
                replies.append(refused_command(name))
            case [b"wait", *_] if shared:
                replies.append(refused_command(name))
            case [b"client", b"REPLY", b"off"]:
                replies.append(refused_command(b"client reply"))
            case [b"reset"]:
                replies.append(b"+RESET\r\n")
            case _:
                replies.append(echo(words))
    return b"".join(replies)


@given(said=commands, shared=st.booleans(), draw=st.data())
def test_every_command_gets_its_reply_in_order(said: list[list[bytes]], shared: bool, draw: st.DataObject) -> None:
    """Cut anywhere on both sides, with renewals at any moment; the server hears no login of the client."""
    session = RedisSession(cutter(draw), shared=shared)
    whole = b"".join(encode_command(*words) for words in said)
    for piece in session.cut(whole):
        if draw.draw(st.booleans()) and session.wants_grant is not None:
            session.grant()
        session.say(piece)
    for _ in range(20):
        if session.wants_grant is not None and session.stopped:
            session.grant()
    assert session.refusal is None
    assert session.client == expected(said, shared=shared)
    forbidden = {b"auth", b"monitor", b"psync", b"wait" if shared else b"monitor"}
    assert not forbidden & {words[0].lower() for words in session.server.heard}


@given(said=commands, draw=st.data())
def test_the_fast_way_agrees_with_the_walk(said: list[list[bytes]], draw: st.DataObject) -> None:
    """What the pattern lets by whole is whole commands, and none of them is watched."""
    data = b"".join(encode_command(*words) for words in said)
    data = data[: draw.draw(st.integers(0, len(data)))]
    if whole_commands(data):
        heard, left = parse(data)
        assert not left
        assert not WATCHED & {words[0].lower() for words in heard}


@given(data=st.binary(max_size=400), draw=st.data())
def test_noise_ends_a_session_or_passes_it_by(data: bytes, draw: st.DataObject) -> None:
    """Nothing but PeerViolation, and however it is cut the same bytes go upstream before it."""

    def walk(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
        scanner, passed, head = Scanner(), b"", b""
        try:
            for piece in pieces:
                chunk, at = head + piece, 0
                while True:
                    end, command = scanner.advance(chunk, at)
                    passed += chunk[at:end]
                    at = end if command is None else command.end
                    if command is None:
                        break
                head = chunk[at:]
        except PeerViolation:
            return b"", True
        return passed, False

    assert walk([data]) == walk(cutter(draw)(data))


@given(draw=st.data())
def test_a_value_of_any_size_is_not_kept(draw: st.DataObject) -> None:
    """After the length of an argument nothing of it stays in the guard."""
    session = RedisSession()
    session.say(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n")
    upstream = len(session.upstream)
    for _ in range(3):
        piece = draw.draw(st.sampled_from([AUTH_INSIDE, b"\r\n" * 40, b"x" * 65_536]))
        session.say(piece)
        upstream += len(piece)
        assert len(session.upstream) == upstream
    assert session.guard._head == b""
