"""Logins at a listener that multiplexes: a client's part, the shared login itself, and the way to one of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from proxy.engines.redis.guard import RedisGuard
from proxy.engines.redis.replies import RedisAnswers
from proxy.engines.redis.wire import encode_command
from proxy.errors import PeerViolation, Refused
from proxy.guard import Pass
from proxy.model import Door, Established, PeerFacts, Shared
from proxy.multiplex import Forward, Pin, SharedLogin
from proxy.script import CLIENT, UPSTREAM, Connect, Now, Random, Reveal, Share, StartTls
from tests.support.clock import FakeClock
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.redis.test_login import (
    AUTH_UPSTREAM,
    BY_NAME,
    DOOR,
    GRANT,
    HELLO_REPLY,
    TOKEN,
    WRONGPASS,
    Book,
    asked,
    dialled,
    opened,
)
from tollbridge.reasons import Reason

MULTIPLEX = replace(DOOR, multiplex=True)
GET = encode_command(b"GET", b"a")
HELLO_3 = encode_command(b"HELLO", b"3")
LOGIN = SharedLogin(
    answers=RedisAnswers(pushes=True),
    user="app",
    greeting=HELLO_REPLY,
    retire_at=FakeClock().now() + timedelta(hours=9),
)
SPREAD_BYTE = bytes([255]) + bytes(31)


def joined(said: bytes, door: Door = MULTIPLEX) -> tuple[Book, Share]:
    """A client that was let into a shared connection, and how it asked."""
    book = opened(door).client(said).expect(asked(), GRANT)
    return book, book.answer(Share, LOGIN)


def shared(book: Book) -> Shared:
    """The client shares."""
    outcome = book.returns()
    assert isinstance(outcome, Shared)
    return outcome


def logging_in(version: bytes, door: Door = MULTIPLEX) -> Playbook[SharedLogin]:
    """The shared login itself, up to the answer of the server."""
    _, share = joined(encode_command(b"HELLO", version), door)
    book = Playbook(share.log_in()).expect(asked(), GRANT).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.expect(Now(), FakeClock().now()).expect(Reveal(GRANT), TOKEN)
    return book.sends(UPSTREAM, encode_command(b"HELLO", version, b"AUTH", b"app", TOKEN.encode()))


@pytest.mark.parametrize(
    ("said", "kind", "hears"),
    [
        (HELLO_3, "3", HELLO_REPLY),
        (encode_command(b"HELLO", b"3", b"AUTH", b"app", b"x", b"SETNAME", b"me"), "3", HELLO_REPLY),
        (encode_command(b"HELLO", b"2"), "2", HELLO_REPLY),
        (encode_command(b"HELLO"), "2", HELLO_REPLY),
        (encode_command(b"AUTH", b"app", b"x"), "2", b"+OK\r\n"),
        (GET, "2", b""),
    ],
    ids=["HELLO 3", "its name", "HELLO 2", "HELLO", "AUTH", "neither"],
)
def test_a_client_hears_what_it_would_hear_alone(said: bytes, kind: str, hears: bytes) -> None:
    """The server's greeting to the shared login, +OK, or nothing; it is permitted for itself, and dials nothing."""
    book, share = joined(said)
    assert (share.grant, share.kind) == (GRANT, f"RESP{kind}, 43200 s")
    assert book.sent(CLIENT) == hears
    shared(book)
    assert book.notes == {"multiplexed": "yes"}


def test_listeners_that_renew_logins_at_other_times_do_not_share() -> None:
    _, usual = joined(GET)
    _, brief = joined(GET, replace(MULTIPLEX, login_seconds=5.0))
    assert usual.kind != brief.kind


def test_what_it_said_behind_its_login_is_left_for_the_relay() -> None:
    book, _ = joined(encode_command(b"AUTH", b"app", b"x") + GET[:9])
    book.sends(CLIENT, b"+OK\r\n")
    assert book.unread(CLIENT) == GET[:9]
    outcome = shared(book)
    assert outcome.sharer.whole(GET) == 1
    assert outcome.farewell(Refused(Reason.DRAINING, "going")).startswith(b"-ERR tollbridge: going")


def test_a_listener_that_does_not_multiplex_asks_for_no_share() -> None:
    """The refusal beside it: the same words, and a connection is dialled."""
    book = dialled(opened().client(GET)).sends(UPSTREAM, AUTH_UPSTREAM).upstream(b"+OK\r\n")
    book.answer(Random, bytes(32))
    assert isinstance(book.returns(), Established)


def test_a_denied_client_hears_it_and_joins_nothing() -> None:
    """Whoever made the connection that it would join."""
    book = opened(MULTIPLEX).client(HELLO_3)
    book.fail(Refused(Reason.DB_USER_NOT_ALLOWED, "shop may not be app", decision_id="d-7"))
    assert book.sent(CLIENT).startswith(b"-NOPERM tollbridge: shop may not be app [DB_USER_NOT_ALLOWED, decision d-7]")
    assert book.raises(Refused).reason is Reason.DB_USER_NOT_ALLOWED


def test_a_name_that_no_server_takes_ends_the_login_as_it_would_alone() -> None:
    book = opened(MULTIPLEX).client(encode_command(b"HELLO", b"3", b"SETNAME", b"a b")).expect(asked(), GRANT)
    book.sends(CLIENT, b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n")
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


@pytest.mark.parametrize("version", [b"2", b"3"])
def test_the_shared_login_says_hello_and_is_retired_long_before_its_end(version: bytes) -> None:
    """Nine hours of AWS's twelve at the earliest, and some later than others."""
    early, late = (
        logging_in(version).upstream(HELLO_REPLY).expect(Random(32), spread).returns()
        for spread in (bytes(32), SPREAD_BYTE)
    )
    assert early.greeting == HELLO_REPLY
    assert early.user == "app"
    since = FakeClock().now()
    assert early.retire_at == since + timedelta(hours=9)
    assert late.retire_at == since + timedelta(hours=10.8)


def test_how_long_logins_last_is_the_listeners_to_say() -> None:
    book = logging_in(b"3", replace(MULTIPLEX, login_seconds=100.0)).upstream(HELLO_REPLY).expect(Random(32), bytes(32))
    assert book.returns().retire_at == FakeClock().now() + timedelta(seconds=75)


def test_a_rejected_credential_is_tried_once_more_and_then_told() -> None:
    """To everybody who waits, with the likely causes, and without the token."""
    book = logging_in(b"2").upstream(WRONGPASS)
    fresh = replace(GRANT, credential_id="c-2", decision_id="d-2")
    book.expect(asked(rejected="c-1"), fresh).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.expect(Now(), FakeClock().now()).expect(Reveal(fresh), TOKEN)
    assert book.sent(UPSTREAM).startswith(b"*5\r\n$5\r\nHELLO")
    refusal = book.upstream(WRONGPASS).raises(Refused)
    assert "refused a fresh credential" in refusal.message
    assert refusal.decision_id == "d-2"
    client = opened(MULTIPLEX).client(GET).expect(asked(), GRANT).fail(refusal)
    said = client.sent(CLIENT)
    assert said.startswith(b"-WRONGPASS tollbridge: master.my-rg.cache.amazonaws.com:6379 refused a fresh credential")
    assert TOKEN.encode() not in said


def test_the_servers_other_errors_arrive_unchanged() -> None:
    """Through the shared login, to each client that waits."""
    full = b"-ERR max number of clients reached\r\n"
    refusal = logging_in(b"3").upstream(full).raises(Refused)
    client = opened(MULTIPLEX).client(HELLO_3).expect(asked(), GRANT).fail(refusal)
    client.sends(CLIENT, full)


def test_a_server_that_makes_no_sense_is_told_as_such() -> None:
    violation = logging_in(b"3").upstream(b"hello\r\n").raises(PeerViolation)
    client = opened(MULTIPLEX).client(HELLO_3).expect(asked(), GRANT).fail(violation)
    assert b"UPSTREAM_PROTOCOL" in client.sent(CLIENT)


@pytest.mark.parametrize(
    ("said", "named", "logs_in"),
    [
        (GET, b"", AUTH_UPSTREAM),
        (encode_command(b"AUTH", b"app", b"x"), b"", AUTH_UPSTREAM),
        (GET, b"me", encode_command(b"HELLO", b"2", b"AUTH", b"app", TOKEN.encode(), b"SETNAME", b"me")),
        (HELLO_3, b"", encode_command(b"HELLO", b"3", b"AUTH", b"app", TOKEN.encode())),
        (HELLO_3, b"me", encode_command(b"HELLO", b"3", b"AUTH", b"app", TOKEN.encode(), b"SETNAME", b"me")),
        (
            encode_command(b"HELLO", b"3", b"SETNAME", b"first"),
            b"",
            encode_command(b"HELLO", b"3", b"AUTH", b"app", TOKEN.encode(), b"SETNAME", b"first"),
        ),
    ],
    ids=["RESP2", "RESP2, AUTH", "RESP2 and a name", "RESP3", "RESP3 and a name", "a name from the beginning"],
)
def test_a_client_that_needs_a_connection_gets_one_like_its_own(said: bytes, named: bytes, logs_in: bytes) -> None:
    """The same protocol version, the name it gave itself, a guard; and it hears nothing of it."""
    book, _ = joined(said)
    book.sent(CLIENT)
    outcome = shared(book)
    if named:
        outcome.sharer.take(encode_command(b"CLIENT", b"SETNAME", named))
    assert outcome.sharer.take(GET + encode_command(b"MULTI")) == [
        Forward(GET, 1),
        Pin(encode_command(b"MULTI"), "multi"),
    ]
    pinned = Playbook(outcome.pin(True)).expect(asked(), GRANT).expect(Connect())
    pinned.expect(StartTls(UPSTREAM), PeerFacts())
    pinned.expect(Now(), FakeClock().now()).expect(Reveal(GRANT), TOKEN).sends(UPSTREAM, logs_in)
    pinned.upstream(HELLO_REPLY if b"HELLO" in logs_in else b"+OK\r\n").answer(Random, bytes(32))
    session = pinned.returns()
    assert isinstance(session.guard, RedisGuard)
    assert session.at_rest(b"+OK\r\n")


@pytest.mark.parametrize("used", [True, False])
def test_a_client_that_has_shared_may_not_wait_for_what_it_wrote(used: bool) -> None:
    """On a connection of its own, which has seen none of it. Who has asked nothing yet may."""
    book, _ = joined(GET)
    book.sent(CLIENT)
    pinned = Playbook(shared(book).pin(used)).expect(asked(), GRANT).expect(Connect())
    pinned.expect(StartTls(UPSTREAM), PeerFacts()).expect(Now(), FakeClock().now()).expect(Reveal(GRANT), TOKEN)
    pinned.sends(UPSTREAM, AUTH_UPSTREAM).upstream(b"+OK\r\n").answer(Random, bytes(32))
    guard = pinned.returns().guard
    assert isinstance(guard, RedisGuard)
    wait = encode_command(b"WAIT", b"1", b"0")
    verdicts = guard.client_bytes(wait)
    assert (verdicts == [Pass(len(wait))]) is not used


def test_a_pin_that_is_refused_raises_what_the_client_is_told() -> None:
    book, _ = joined(GET)
    pinned = Playbook(shared(book).pin(True)).fail(Refused(Reason.DB_USER_NOT_ALLOWED, "no longer", decision_id="d-9"))
    refusal = pinned.raises(Refused)
    assert shared(book).farewell(refusal).startswith(b"-NOPERM tollbridge: no longer [DB_USER_NOT_ALLOWED")


def test_login_names_that_route_mean_the_same_user_later() -> None:
    """What the client called itself, and what its user is called."""
    said = encode_command(b"AUTH", b"app@cache", b"x")
    book, _ = joined(said, replace(BY_NAME, multiplex=True))
    book.sends(CLIENT, b"+OK\r\n")
    sharer = shared(book).sharer
    for user, answer in ((b"app@cache", b"+OK"), (b"app", b"+OK"), (b"other@cache", b"-WRONGPASS")):
        (step,) = sharer.take(encode_command(b"AUTH", user, b"x"))
        assert step.data.startswith(answer)  # type: ignore[union-attr]


@pytest.mark.parametrize("version", [b"2", b"3"])
@pytest.mark.parametrize("said", [b"+OK\r\n", b"+PONG\r\n", b"$2\r\nok\r\n", b">2\r\n+message\r\n+hi\r\n", b"_\r\n"])
def test_a_greeting_that_is_none_ends_the_login(version: bytes, said: bytes) -> None:
    """Taken for one, it would leave the real one to be the first client's first answer, and so on for all."""
    book = logging_in(version).upstream(said)
    assert "HELLO" in str(book.raises(PeerViolation))
