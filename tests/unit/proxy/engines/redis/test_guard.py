"""A Redis session after its login: what is answered here, what is refused, and how the login stays alive."""

from __future__ import annotations

from datetime import timedelta

import pytest

from proxy.engines.redis.refusals import NO_SUCH_LOGIN
from proxy.engines.redis.wire import encode_command, split_inline
from proxy.errors import PeerViolation
from tests.support.redis_session import RedisSession, echo
from tollbridge.reasons import Reason

GET = encode_command(b"GET", b"a")
MESSAGE = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n+OK\n\r\n"
PUSH = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n+OK\n\r\n"


def test_most_of_a_session_is_never_walked() -> None:
    """Whole commands with short arguments take the fast way."""
    session = RedisSession()
    assert session.guard.passes(GET * 16)
    assert not session.guard.passes(GET + b"*1\r\n$4\r\nMU")
    assert not session.guard.passes(GET + encode_command(b"mUlTi"))


def test_a_refused_command_is_answered_in_its_turn() -> None:
    """Between the replies before and behind it, in one pipeline."""
    session = RedisSession()
    session.say(GET + encode_command(b"MONITOR") + GET)
    before, refusal, behind = session.client.partition(b"-ERR tollbridge refuses this: MONITOR")
    assert before == echo([b"GET", b"a"])
    assert refusal
    assert behind.endswith(echo([b"GET", b"a"]))
    assert session.server.heard == [[b"GET", b"a"]] * 2


@pytest.mark.parametrize("name", [b"WAIT", b"waitaof"])
def test_a_client_that_has_shared_a_connection_is_told_nothing_of_its_writes(name: bytes) -> None:
    """The server would count those of this connection alone, and say that all is well. To others it tells."""
    words = [name, b"1", b"0"]
    for said in (encode_command(*words), b" ".join(words) + b"\r\n"):
        session = RedisSession(shared=True)
        session.say(GET + said + GET)
        before, refusal, behind = session.client.partition(b"-ERR tollbridge refuses this: %s knows" % name.upper())
        assert before == echo([b"GET", b"a"])
        assert refusal
        assert b"; connect through a listener that does not multiplex\r\n" in behind
        assert behind.endswith(echo([b"GET", b"a"]))
        assert session.server.heard == [[b"GET", b"a"]] * 2
        other = RedisSession(shared=False)
        other.say(GET + said)
        assert other.client == echo([b"GET", b"a"]) + echo(words)


@pytest.mark.parametrize(
    "said",
    [b"AUTH other pw\r\n", b'"\\x41uth" other pw\r\n', encode_command(b"HELLO", b"3", b"AUTH", b"other", b"pw")],
    ids=["inline", "quoted", "HELLO"],
)
def test_nobody_becomes_somebody_else(said: bytes) -> None:
    """However it is written, and the server never hears of it."""
    session = RedisSession()
    session.say(said)
    assert session.client == NO_SUCH_LOGIN
    assert session.server.heard == []


def test_a_password_without_a_user_means_the_listeners() -> None:
    """+OK where the session's user is that one; elsewhere it names nobody."""
    for default, answer in ((True, b"+OK\r\n"), (False, NO_SUCH_LOGIN)):
        session = RedisSession(default=default)
        session.say(encode_command(b"AUTH", b"x"))
        assert session.client == answer


def test_reset_keeps_the_login() -> None:
    """The server's own +RESET, a new login behind it that nobody sees, and the session goes on."""
    session = RedisSession()
    session.say(encode_command(b"MULTI") + encode_command(b"RESET") + GET)
    assert session.wants_grant is not None
    assert session.stopped
    session.grant()
    assert session.client == echo([b"MULTI"]) + b"+RESET\r\n" + echo([b"GET", b"a"])
    assert session.server.logins == 1


def test_a_login_that_is_refused_behind_a_reset_ends_the_session() -> None:
    session = RedisSession()
    session.server.accepts = False
    session.say(encode_command(b"RESET"))
    session.grant()
    assert session.refusal is not None
    assert session.refusal.reason is Reason.DATABASE_REFUSED


def test_a_login_is_renewed_unseen_and_later_again() -> None:
    """Three quarters into its life, and the deadline moves."""
    session = RedisSession(life=1000)
    first = session.wants_grant
    assert first is not None
    assert session.deadline is not None
    assert (
        session.schedule.since + timedelta(seconds=750) <= first.at <= session.schedule.since + timedelta(seconds=900)
    )
    cut = session.deadline.at
    session.say(GET)
    session.grant()
    assert session.server.logins == 1
    assert session.client == echo([b"GET", b"a"])
    assert session.wants_grant is not None
    assert session.wants_grant.at > first.at
    assert session.deadline.at > cut
    assert session.guard.passes(GET)


def test_a_renewal_waits_for_the_end_of_a_value_and_of_multi() -> None:
    """AUTH inside MULTI would end it; inside a value it would be a part of it."""
    session = RedisSession()
    session.say(encode_command(b"MULTI") + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nva")
    session.grant()
    assert session.server.logins == 0
    session.say(b"lu\r\n")
    assert session.server.logins == 0
    session.say(encode_command(b"EXEC") + GET)
    assert session.server.logins == 1
    expected = [[b"MULTI"], [b"SET", b"k", b"valu"], [b"EXEC"], [b"GET", b"a"]]
    assert session.client == b"".join(map(echo, expected))


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_renewal_does_not_come_between_client_caching_and_its_command(size: int) -> None:
    """The server forgets it with the next command, and the client would keep a value that nobody says has changed."""
    session = RedisSession(lambda data: [data[at : at + size] for at in range(0, len(data), size)])
    session.say(encode_command(b"client", b"Caching", b"YES"))
    assert not session.guard.passes(GET)
    session.grant()
    assert session.server.logins == 0
    session.say(GET)
    assert session.server.logins == 1
    assert session.upstream.index(GET) < session.upstream.index(b"tollbridge:")
    assert session.client == echo([b"client", b"Caching", b"YES"]) + echo([b"GET", b"a"])
    assert session.guard.passes(GET)


def test_a_renewal_in_the_middle_of_a_pipeline_that_never_pauses() -> None:
    """Chunks that never end where a command ends: the first command that ends is a safe point."""
    stream = GET * 50
    session = RedisSession()
    session.say(stream[:10])
    session.grant()
    for at in range(10, len(stream), 37):
        session.say(stream[at : at + 37])
    assert session.server.logins == 1
    assert session.client == echo([b"GET", b"a"]) * 50


def test_a_renewal_waits_for_a_blocked_command() -> None:
    """Sent behind a BLPOP, answered behind it; until then the client is not read."""
    session = RedisSession()
    session.server.silent = True
    session.say(encode_command(b"BLPOP", b"q", b"0"))
    session.grant()
    assert session.stopped
    assert session.server.logins == 0
    session.resume()
    assert session.server.logins == 1
    assert not session.stopped
    assert session.client == echo([b"BLPOP", b"q", b"0"])


@pytest.mark.parametrize("message", [PUSH, MESSAGE], ids=["RESP3", "RESP2"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_messages_reach_a_subscriber_around_a_renewal_and_a_reset(size: int, message: bytes) -> None:
    """They come before, between and behind the answers that nobody sees, and are never taken for one."""
    session = RedisSession(lambda data: [data[at : at + size] for at in range(0, len(data), size)])
    session.server.pushes = message
    session.say(GET)
    session.grant()
    assert session.server.logins == 1
    assert session.client == message + echo([b"GET", b"a"]) + message + message
    session.client = b""
    session.say(encode_command(b"RESET"))
    session.grant()
    assert session.server.logins == 2
    assert session.client == message + message + b"+RESET\r\n" + message


def test_a_renewal_that_the_server_refuses_is_tried_again() -> None:
    """As a RESP2 subscriber's is: unseen, later, until the deadline that has not moved."""
    session = RedisSession()
    assert session.deadline is not None
    cut = session.deadline
    session.server.accepts = False
    session.grant()
    assert session.client == b""
    assert session.wants_grant is not None
    assert session.deadline.at == cut.at
    assert cut.refusal.reason is Reason.SESSION_TOO_LONG
    session.server.accepts = True
    session.grant()
    assert session.deadline.at > cut.at


def test_a_value_of_the_server_cannot_pass_for_the_fence() -> None:
    """Errors inside values, quoted words of earlier fences: the next word is another."""
    session = RedisSession()
    session.say(encode_command(b"MONITOR"))
    word = session.upstream.split(b"\r\n")[2]
    session.say(encode_command(b"ECHO", b"\r\n-ERR unknown command '" + word + b"'\r\n") + encode_command(b"MONITOR"))
    assert session.client.count(b"MONITOR shows") == 2
    assert b"unknown command '" + word in session.client


@pytest.mark.parametrize("said", [b"*1\r\n$x\r\n", b"*1\r\n$4\r\nPING!!", b"PI\0NG\r\n", b"*2\r\n$3\r\nGET\r\n:1\r\n"])
def test_what_servers_could_read_differently_ends_the_session(said: bytes) -> None:
    """With one error line, as a server does."""
    session = RedisSession()
    session.say(said)
    assert session.refusal is not None
    assert session.refusal.reason is Reason.CLIENT_PROTOCOL


def test_a_watched_command_too_long_to_be_read_ends_the_session() -> None:
    """64 KiB of AUTH are nobody's password."""
    session = RedisSession()
    session.say(b"*3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$70000\r\n")
    assert session.refusal is not None
    session = RedisSession()
    session.say(b"*129\r\n$6\r\nCLIENT\r\n")  # each byte of it would cost as much as all before
    assert session.refusal is not None
    assert "129 arguments" in session.refusal.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"  set  k\tv ", [b"set", b"k", b"v"]),
        (b'set k "a b\\r\\n\\x41\\"\\q"', [b"set", b"k", b'a b\r\nA"q']),
        (b"set k 'a\\'b\\n'", [b"set", b"k", b"a'b\\n"]),
        (b"\"\" ''", [b"", b""]),
        (b"", []),
        (b'a"b"', [b"ab"]),
        (b"\v\fauth\vx\f \v'y'\vz", [b"auth\vx\f", b"y", b"z"]),
    ],
)
def test_inline_commands_are_split_as_servers_split_them(line: bytes, words: list[bytes]) -> None:
    """The rules of sdssplitargs."""
    assert split_inline(line) == words


@pytest.mark.parametrize("line", [b'a "b', b"a 'b", b'"a"b', b"'a'b", b"a\0b"])
def test_inline_commands_that_servers_refuse(line: bytes) -> None:
    """Unbalanced, or cut off by a NUL."""
    with pytest.raises(PeerViolation):
        split_inline(line)
