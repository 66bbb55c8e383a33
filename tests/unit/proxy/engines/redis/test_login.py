"""A Redis client's way in, one conversation a test, and the refusal beside each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.engines.redis import RedisEngine
from proxy.engines.redis.guard import RedisGuard
from proxy.engines.redis.wire import encode_command
from proxy.errors import PeerViolation, Refused
from proxy.model import Door, Established, Finished, Location, Outcome, PeerFacts, SealedGrant
from proxy.script import CLIENT, UPSTREAM, Connect, Now, Random, RequestGrant, Reveal, StartTls
from tests.support.clock import FakeClock
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, TlsFacts
from tollbridge.reasons import Reason

WORKLOAD = "spiffe://td/shop"
LOCATION = Location(
    database="cache", endpoint=Endpoint(host="master.my-rg.cache.amazonaws.com", port=6379), tls=TlsFacts()
)
GRANT = SealedGrant(location=LOCATION, decision_id="d-1", credential_id="c-1", user="app", reused=True)
TOKEN = "my-rg/?Action=connect&User=app"
DOOR = Door(name="cache", tls_available=True, tls_required=False, workload=WORKLOAD, database="cache", db_user="app")
NAMELESS = replace(DOOR, db_user=None)
BY_NAME = replace(DOOR, db_user=None, database=None, by_login_name=True)
AUTH_UPSTREAM = encode_command(b"AUTH", b"app", TOKEN.encode())
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
HELLO_REPLY = b"%2\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$5\r\nproto\r\n:3\r\n"

Book = Playbook[Outcome]


def opened(door: Door = DOOR) -> Book:
    """A client that has connected and said nothing."""
    return Playbook(RedisEngine().login(door))


def asked(db_user: str = "app", rejected: str = "") -> RequestGrant:
    """The question to the broker."""
    return RequestGrant(WORKLOAD, "cache", db_user, "", rejected)


def dialled(book: Book, grant: SealedGrant = GRANT, question: RequestGrant | None = None) -> Book:
    """Granted, connected, verified, and the token revealed."""
    book.expect(question or asked(), grant).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    return book.expect(Now(), FakeClock().now()).expect(Reveal(grant), TOKEN)


def done(book: Book) -> Established:
    """The login has succeeded."""
    outcome = book.returns()
    assert isinstance(outcome, Established)
    assert isinstance(outcome.guard, RedisGuard)
    return outcome


def test_any_first_command_starts_the_login_and_is_left_for_the_relay() -> None:
    """With a default user nothing is asked, nothing is said to the client, and its command goes first."""
    said = encode_command(b"SET", b"k", b"v" * 10)
    book = dialled(opened().client(said)).sends(UPSTREAM, AUTH_UPSTREAM).upstream(b"+OK\r\n")
    book.answer(Random, bytes(32))
    done(book)
    assert book.unread(CLIENT) == said


def test_a_first_command_of_any_size_is_known_by_its_name() -> None:
    """500 MB that begin to arrive are not waited for."""
    book = opened().client(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nvvv")
    book.expect(asked(), GRANT)


@pytest.mark.parametrize(
    "said", [encode_command(b"AUTH", b"app", b"x"), encode_command(b"auth", b"x"), b"AUTH app 'a b'\r\n"]
)
def test_auth_is_answered_and_its_password_goes_nowhere(said: bytes) -> None:
    """Any password will do: the certificate or the listener says who it is."""
    book = dialled(opened().client(said)).sends(UPSTREAM, AUTH_UPSTREAM).upstream(b"+OK\r\n")
    book.answer(Random, bytes(32))
    book.sends(CLIENT, b"+OK\r\n")
    done(book)


def test_hello_3_becomes_ours_and_its_reply_is_the_clients() -> None:
    """The protocol version and the connection's name are the client's, the login is not."""
    said = encode_command(b"HELLO", b"3", b"AUTH", b"app", b"x", b"SETNAME", b"me")
    book = dialled(opened().client(said))
    book.sends(UPSTREAM, encode_command(b"HELLO", b"3", b"AUTH", b"app", TOKEN.encode(), b"SETNAME", b"me"))
    book.upstream(HELLO_REPLY[:20]).upstream(HELLO_REPLY[20:]).answer(Random, bytes(32))
    book.sends(CLIENT, HELLO_REPLY)
    done(book)


def test_without_a_default_user_nothing_happens_before_auth() -> None:
    """-NOAUTH to each command, in a server's own words, and no question to anybody."""
    book = opened(NAMELESS).client(b"PING\r\n").sends(CLIENT, b"-NOAUTH Authentication required.\r\n")
    book.client(encode_command(b"HELLO", b"3"))
    assert book.sent(CLIENT).startswith(b"-NOAUTH HELLO must be called")
    book.client(b"AUTH x\r\n")
    assert book.sent(CLIENT).startswith(b"-WRONGPASS name a user")
    book.client(b"HELLO 9\r\n").sends(CLIENT, b"-NOPROTO unsupported protocol version\r\n")
    book.client(b"RESET\r\n").sends(CLIENT, b"+RESET\r\n")
    book.client(b"AUTH app x\r\n").expect(asked(), GRANT)


def test_a_login_name_that_routes() -> None:
    """db_user@database, split at the last @."""
    book = opened(BY_NAME).client(encode_command(b"AUTH", b"a@b@cache", b"x"))
    book.expect(asked("a@b"), GRANT)
    book = opened(BY_NAME).client(encode_command(b"AUTH", b"app", b"x"))
    assert book.sent(CLIENT).startswith(b"-ERR tollbridge: listener 'cache' is routed by login name")


def test_tls_comes_first_where_the_client_begins_with_it() -> None:
    """No STARTTLS: a ClientHello is the first byte."""
    book = opened().client(b"\x16rest").expect(StartTls(CLIENT), PeerFacts(identity=WORKLOAD))
    assert book.given_to_tls[CLIENT] == b"\x16rest"
    book.client(b"PING\r\n").expect(asked(), GRANT)


def test_plaintext_where_tls_is_required_and_tls_where_there_is_none() -> None:
    """Said in plaintext, which is all that side understands."""
    book = opened(replace(DOOR, tls_required=True)).client(b"PING\r\n")
    assert b"CLIENT_TLS_REQUIRED" in book.sent(CLIENT)
    book = opened(replace(DOOR, tls_available=False)).client(b"\x16\x03\x01")
    assert b"has no TLS" in book.sent(CLIENT)


def test_a_rejected_credential_is_told_to_the_broker_and_the_login_repeated_once() -> None:
    """The second refusal names the likely causes, and the client hears them in one line."""
    fresh = replace(GRANT, credential_id="c-2", decision_id="d-2")
    book = dialled(opened().client(b"PING\r\n")).sends(UPSTREAM, AUTH_UPSTREAM).upstream(WRONGPASS)
    dialled(book, fresh, asked(rejected="c-1")).sends(UPSTREAM, AUTH_UPSTREAM).upstream(WRONGPASS)
    said = book.sent(CLIENT)
    assert said.startswith(b"-WRONGPASS tollbridge: master.my-rg.cache.amazonaws.com:6379 refused a fresh credential")
    assert b"elasticache:Connect" in said
    assert said.count(b"\n") == 1
    assert TOKEN.encode() not in said
    assert book.raises(Refused).decision_id == "d-2"


def test_the_servers_other_errors_arrive_unchanged() -> None:
    """No second try for what no credential can mend."""
    full = b"-ERR max number of clients reached\r\n"
    book = dialled(opened().client(b"PING\r\n")).sends(UPSTREAM, AUTH_UPSTREAM).upstream(full)
    book.sends(CLIENT, full)
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


def test_a_broker_that_says_no() -> None:
    """NOPERM, with the reason and the decision, and nothing was dialled."""
    book = opened().client(b"PING\r\n")
    book.fail(Refused(Reason.DB_USER_NOT_ALLOWED, "shop may not be app", decision_id="d-7"))
    said = book.sent(CLIENT)
    assert said.startswith(b"-NOPERM tollbridge: shop may not be app [DB_USER_NOT_ALLOWED, decision d-7]")


@pytest.mark.parametrize("reply", [b"+PONG\r\n", b"$2\r\nhi\r\n", b"*1\r\n+OK\r\n", b"hello\r\n"])
def test_a_server_that_makes_no_sense(reply: bytes) -> None:
    """Not +OK and no error is not a login."""
    book = dialled(opened().client(b"PING\r\n")).sends(UPSTREAM, AUTH_UPSTREAM).upstream(reply)
    assert b"UPSTREAM_PROTOCOL" in book.sent(CLIENT)


@pytest.mark.parametrize(
    "said",
    [
        b"*1\r\n$99999999\r\n" + b"x" * 70_000,
        b"x" * 70_000,
        b"*-x\r\n",
        b"*1\n$4\nPING\n" + b" " * 32,
        b"*1\r\n:4\r\n",
        b"*01\r\n",
        b"a 'b\r\n",
        b"AU\0TH\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"PING\r\n" * 40,
    ],
    ids=range(10),
)
def test_nonsense_before_a_login_ends_in_one_error_line(said: bytes) -> None:
    """Bounded, and said natively; what another parser could read in a second way is nonsense too."""
    book = opened(NAMELESS).client(said)
    said_back = book.sent(CLIENT).replace(b"-NOAUTH Authentication required.\r\n", b"")
    assert said_back.startswith(b"-ERR tollbridge: ")
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


@pytest.mark.parametrize("shown", [len(TOKEN), 20], ids=["whole", "cut off"])
def test_a_server_that_quotes_what_it_was_sent_shows_nobody_the_token(shown: int) -> None:
    """Redis before version 6 knows no HELLO, and says so with the arguments it was given."""
    book = dialled(opened().client(encode_command(b"HELLO", b"3")))
    assert book.sent(UPSTREAM).startswith(b"*5\r\n$5\r\nHELLO")
    known = b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `app`, `"
    book.upstream(known + TOKEN[:shown].encode() + b"`, \r\n").sends(CLIENT, known + b"(not shown)\r\n")
    assert "Action=connect" not in str(book.raises(Refused))


def test_quit_leaves_without_a_login() -> None:
    """A health check that costs nobody anything."""
    book = opened().client(b"QUIT\r\n").sends(CLIENT, b"+OK\r\n")
    assert isinstance(book.returns(), Finished)


def test_a_user_name_that_is_no_text() -> None:
    """Nothing to ask the broker with."""
    book = opened().client(encode_command(b"AUTH", b"\xff\xfe", b"x"))
    assert b"not UTF-8" in book.sent(CLIENT)


def test_the_probe_logs_in_pings_and_leaves() -> None:
    """The upstream half alone, its login noted apart from its query."""
    book = Playbook(RedisEngine().probe(workload=WORKLOAD, database="cache", db_user="app", db_name=""))
    book.expect(asked(), GRANT).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.expect(Now(), FakeClock().now()).expect(Reveal(GRANT), TOKEN).sends(UPSTREAM, AUTH_UPSTREAM)
    book.upstream(b"+OK\r\n").sends(UPSTREAM, encode_command(b"PING")).upstream(b"+PONG\r\n")
    book.sends(UPSTREAM, encode_command(b"QUIT"))
    assert book.notes == {"step": "login"}
    assert "answered PING" in book.returns()


def test_goodbyes_come_between_replies() -> None:
    """Where the last byte said ends a line."""
    book = dialled(opened().client(b"PING\r\n")).sends(UPSTREAM, AUTH_UPSTREAM).upstream(b"+OK\r\n")
    book.answer(Random, bytes(32))
    session = done(book)
    assert session.at_rest(b"")
    assert session.at_rest(b"+PONG\r\n")
    assert not session.at_rest(b"$5\r\nhel")
    assert session.farewell(Refused(Reason.DRAINING, "going")).startswith(b"-ERR tollbridge: going")


def test_violations_name_the_client() -> None:
    """The audit says whose fault it was."""
    book = opened().client(b"*1\r\n$-1\r\n")
    book.sent(CLIENT)
    assert isinstance(book.raises(Refused).__cause__, PeerViolation)
