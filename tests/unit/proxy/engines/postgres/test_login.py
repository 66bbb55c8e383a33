"""A whole login, read as the conversation."""

from __future__ import annotations

import struct

import pytest

from proxy.engines.postgres import PostgresEngine
from proxy.engines.postgres.upstream import ALPN
from proxy.errors import PeerViolation, Refused
from proxy.model import Established, PeerFacts
from proxy.script import CLIENT, UPSTREAM, Connect, RequestGrant, Reveal, StartTls
from tests.unit.proxy.engines.postgres.conversation import (
    FACTS,
    GREETING,
    GSSENC,
    KEY,
    LOGIN,
    READY,
    SSL,
    TOKEN,
    WORKLOAD,
    asked,
    asks,
    dials,
    door,
    error,
    grant,
    message,
    native,
    opened,
    reaches_upstream,
    shows_token,
    startup,
)
from tollbridge.reasons import Reason


def established(value: object) -> Established:
    """The outcome, as what it must be."""
    assert isinstance(value, Established)
    return value


def test_a_login_over_tls_on_both_sides() -> None:
    """SSLRequest, TLS, startup, grant, dial, TLS, token, and the server's own greeting for the client."""
    book = opened(door(tls_required=True, workload=None))
    book.client(SSL).sends(CLIENT, b"S").expect(StartTls(CLIENT, ALPN), FACTS)
    book.client(LOGIN).expect(asked(), grant())
    book.expect(Connect()).sends(UPSTREAM, SSL).upstream(b"S").expect(StartTls(UPSTREAM, ALPN), PeerFacts())
    book.sends(UPSTREAM, LOGIN)
    book.upstream(asks(3)).expect(Reveal(grant()), TOKEN).sends(UPSTREAM, message(b"p", TOKEN.encode() + b"\0"))
    book.upstream(GREETING).sends(CLIENT, GREETING)
    assert established(book.returns()).cancel_key == KEY


def test_what_is_unread_at_the_end_stays_for_the_relay() -> None:
    """A client that pipelines a query and a server that speaks on lose nothing."""
    book = shows_token(reaches_upstream(opened()))
    book.client(b"Q\0\0\0\x0dselect 1\0").upstream(GREETING + b"N-tail").sends(CLIENT, GREETING)
    book.returns()
    assert book.unread(CLIENT) == b"Q\0\0\0\x0dselect 1\0"
    assert book.unread(UPSTREAM) == b"N-tail"


def test_direct_tls_hands_its_client_hello_to_the_tls_engine() -> None:
    """A first byte 0x16 is TLS, and not a byte of it is read before."""
    book = opened().client(b"\x16\x03\x01hello").expect(StartTls(CLIENT, ALPN), FACTS)
    assert book.given_to_tls[CLIENT] == b"\x16\x03\x01hello"
    book.client(LOGIN).expect(asked(), grant())


@pytest.mark.parametrize("alpn", [None, "h2"])
def test_direct_tls_needs_alpn(alpn: str | None) -> None:
    """Otherwise a TLS session meant for another protocol could be turned on this port."""
    book = opened().client(b"\x16").expect(StartTls(CLIENT, ALPN), PeerFacts(alpn=alpn))
    assert "ALPN" in native(book.sent(CLIENT))["M"]
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


def test_direct_tls_where_there_is_none() -> None:
    """The client is told, though its TLS library will not show it."""
    book = opened(door(tls_available=False)).client(b"\x16")
    assert native(book.sent(CLIENT))["C"] == "0A000"
    assert book.raises(Refused).reason is Reason.FEATURE_REFUSED


def test_encryption_that_is_not_there_is_declined_and_the_login_goes_on() -> None:
    """libpq with sslmode=prefer asks for GSSAPI, then TLS, then logs in as it is."""
    book = opened(door(tls_available=False))
    book.client(GSSENC).sends(CLIENT, b"N").client(SSL).sends(CLIENT, b"N")
    book.client(LOGIN).expect(asked(), grant())


@pytest.mark.parametrize("request_", [SSL, GSSENC])
def test_each_encryption_is_asked_for_once(request_: bytes) -> None:
    """A second time is not PostgreSQL's protocol."""
    book = opened(door(tls_available=False)).client(request_).sends(CLIENT, b"N").client(request_)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


@pytest.mark.parametrize("request_", [SSL, GSSENC])
@pytest.mark.parametrize("behind", [LOGIN, b"\x16", b"\0"])
def test_plaintext_smuggled_behind_an_encryption_request(request_: bytes, behind: bytes) -> None:
    """Refused before 'S' is written (CVE-2021-23214)."""
    book = opened().client(request_ + behind)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert isinstance(book.raises(Refused).__cause__, PeerViolation)


@pytest.mark.parametrize("request_", [SSL, GSSENC])
def test_encryption_inside_encryption(request_: bytes) -> None:
    """Inside TLS only a login or a cancel request makes sense."""
    book = opened().client(SSL).sends(CLIENT, b"S").expect(StartTls(CLIENT, ALPN), FACTS).client(request_)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


def test_plaintext_where_tls_is_required() -> None:
    """Refused in plaintext, natively, and nobody upstream hears of it."""
    book = opened(door(tls_required=True)).client(LOGIN)
    said = native(book.sent(CLIENT))
    assert (said["C"], said["S"]) == ("28000", "FATAL")
    assert "sslmode" in said["H"]
    assert book.raises(Refused).reason is Reason.CLIENT_TLS_REQUIRED


def test_parameters_pass_unchanged_but_for_user_and_database() -> None:
    """Order and values are the client's; the user is the grant's, which can differ from the one asked for."""
    rest = (("application_name", "shop"), ("options", "-c role=boss"), ("_pq_.x", "1"), ("client_encoding", "UTF8"))
    book = opened().client(startup(("application_name", "shop"), ("user", "app"), *rest[1:], ("replication", "off")))
    book.expect(asked(db_name="app"), grant(user="IAM:app"))
    dials(book).sends(UPSTREAM, startup(("user", "IAM:app"), ("database", "app"), *rest))
    assert book.notes == {"application_name": "shop", "options": "role"}


def test_a_version_is_asked_of_upstream_and_its_answer_handed_on() -> None:
    """3.2 upstream; its NegotiateProtocolVersion reaches the client before AuthenticationOk, and a long key too."""
    packet = startup(("user", "app"), ("database", "shop"), version=0x30002)
    negotiated = message(b"v", struct.pack("!II", 0x30000, 1) + b"_pq_.x\0")
    greeting = asks(0) + message(b"K", b"pid." + b"k" * 32) + READY
    book = reaches_upstream(opened(), packet)
    book.upstream(negotiated + greeting).sends(CLIENT, negotiated + greeting)
    assert established(book.returns()).cancel_key == b"pid." + b"k" * 32


@pytest.mark.parametrize("version", [0x30003, 0x20000])
def test_upstream_cannot_negotiate_up_or_out(version: int) -> None:
    """Only a version between 3.0 and the one asked for is an answer."""
    book = reaches_upstream(opened(), startup(("user", "app"), ("database", "shop"), version=0x30002))
    book.upstream(message(b"v", struct.pack("!II", version, 0)))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("version", [0x20000, 0x40000])
def test_another_major_version_is_refused(version: int) -> None:
    """Protocol 2 is gone and 4 does not exist."""
    book = opened().client(startup(("user", "app"), version=version))
    assert native(book.sent(CLIENT))["C"] == "0A000"
    assert book.raises(Refused).reason is Reason.FEATURE_REFUSED


@pytest.mark.parametrize("value", ["true", "on", "1", "yes", "database", "t", ""])
def test_replication_is_refused(value: str) -> None:
    """IAM authentication cannot be used for it; whatever is not plainly false counts as asked for."""
    book = opened().client(startup(("user", "app"), ("replication", value)))
    assert native(book.sent(CLIENT))["C"] == "0A000"
    assert book.raises(Refused).reason is Reason.FEATURE_REFUSED


@pytest.mark.parametrize("value", ["false", "off", "no", "0", "OFF"])
def test_replication_that_is_plainly_off_is_not(value: str) -> None:
    """Some drivers say so in every login."""
    opened().client(startup(("user", "app"), ("replication", value))).expect(asked(db_name="app"), grant())


@pytest.mark.parametrize("name", ["user", "database"])
def test_a_name_said_twice_is_refused(name: str) -> None:
    """Otherwise we could decide on one and the server on the other."""
    book = opened().client(startup(("user", "app"), ("database", "shop"), (name, "other")))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


@pytest.mark.parametrize("packet", [startup(("database", "shop")), startup(("user", ""), ("database", "shop"))])
def test_no_user_is_refused(packet: bytes) -> None:
    """Nobody is not a user."""
    book = opened().client(packet)
    assert "user" in native(book.sent(CLIENT))["M"]
    assert book.raises(Refused).reason is Reason.INVALID_REQUEST


@pytest.mark.parametrize("database", [(), (("database", ""),)])
def test_an_empty_database_is_resolved_before_access_is_decided(database: tuple[tuple[str, str], ...]) -> None:
    """The server would take the user's name: so does the question to the broker."""
    opened().client(startup(("user", "app"), *database)).expect(asked(db_name="app"), grant())


@pytest.mark.parametrize(("database", "db_name"), [("app@orders", "app"), ("", "app"), ("shop", "shop")])
def test_a_login_name_as_database_counts_as_empty(database: str, db_name: str) -> None:
    """libpq fills in the whole login name when no database is given."""
    book = opened(door(database=None, by_login_name=True))
    book.client(startup(("user", "app@orders"), ("database", database)))
    book.expect(asked(db_name=db_name), grant())
    dials(book).sends(UPSTREAM, startup(("user", "app"), ("database", db_name)))


def test_on_a_fixed_database_a_login_name_is_just_a_user() -> None:
    """Nothing is split there, and its own name is a real database name."""
    book = opened().client(startup(("user", "app@x"), ("database", "app@x")))
    book.expect(RequestGrant(WORKLOAD, "orders", "app@x", "app@x"), grant())


def test_a_client_that_nobody_identifies() -> None:
    """No certificate and no fixed workload: refused before anybody is asked."""
    book = opened(door(workload=None)).client(LOGIN)
    assert native(book.sent(CLIENT))["C"] == "28000"
    assert book.raises(Refused).reason is Reason.CLIENT_UNIDENTIFIED


def test_a_broker_that_says_no() -> None:
    """The refusal goes to the client with its decision id, and nothing was dialled."""
    book = opened().client(LOGIN)
    book.fail(Refused(Reason.DB_USER_NOT_ALLOWED, "shop may not be app", decision_id="d-7"))
    said = native(book.sent(CLIENT))
    assert said["C"] == "28000"
    assert said["M"] == "tollbridge: shop may not be app"
    assert "DB_USER_NOT_ALLOWED" in said["D"]
    assert "d-7" in said["D"]
    assert "db_users" in said["H"]
    assert book.raises(Refused).decision_id == "d-7"


def test_startup_parameters_that_no_longer_fit_upstream() -> None:
    """A grant's longer user name can push a full packet over PostgreSQL's limit: said before dialling."""
    book = opened().client(startup(("user", "app"), ("options", "x" * 9_950)))
    book.expect(asked(db_name="app"), grant(user="IAM:" + "a" * 60))
    assert native(book.sent(CLIENT))["C"] == "22023"
    assert book.raises(Refused).reason is Reason.INVALID_REQUEST


def test_the_goodbyes_of_a_session() -> None:
    """Drain and idle end in FATAL errors that pools know, between two answers only."""
    book = shows_token(reaches_upstream(opened()))
    book.upstream(GREETING).sends(CLIENT, GREETING)
    outcome = established(book.returns())
    assert native(outcome.farewell(Refused(Reason.DRAINING, "going")))["C"] == "57P01"
    assert native(outcome.farewell(Refused(Reason.SESSION_IDLE, "idle")))["C"] == "57P05"
    assert all(outcome.at_rest(b"C\0\0\0\x0dSELECT 1\0" + b"Z\0\0\0\5" + state) for state in (b"I", b"T", b"E"))
    assert outcome.at_rest(b"")
    assert not outcome.at_rest(b"D\0\0\0\x0b")
    assert not outcome.at_rest(b"Z\0\0\0\5")
    assert not outcome.at_rest(b"Z\0\0\0\5X")


def test_a_deadline_in_the_middle_is_said_natively() -> None:
    """The driver's own refusals go the engine's way."""
    book = reaches_upstream(opened())
    book.fail(Refused(Reason.HANDSHAKE_TIMEOUT, "too slow"))
    assert native(book.sent(CLIENT))["C"] == "57014"


def test_the_listener_can_refuse_before_a_word() -> None:
    """Full or draining: an error that libpq shows."""
    assert native(PostgresEngine().refuse(Reason.TOO_MANY_CONNECTIONS, "full"))["C"] == "53300"


@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [("3D000", 'database "x" does not exist'), ("53300", "sorry, too many clients already"), ("57P03", "starting up")],
)
@pytest.mark.parametrize("accepted", [True, False])
def test_the_servers_own_errors_arrive_unchanged(sqlstate: str, text: str, accepted: bool) -> None:
    """Before or after AuthenticationOk: byte for byte, and no second try."""
    book = shows_token(reaches_upstream(opened()))
    book.upstream((asks(0) if accepted else b"") + error(sqlstate, text)).sends(CLIENT, error(sqlstate, text))
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED
    assert sqlstate in book.raises(Refused).message
