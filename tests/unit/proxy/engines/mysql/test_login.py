"""The client half: what it is greeted with, TLS, identity, routes, methods; the refusal beside every success."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.engines.mysql import MysqlEngine, upstream
from proxy.errors import PeerClosed, PeerViolation, Refused
from proxy.model import Established, Outcome, PeerFacts
from proxy.script import (
    CLIENT,
    UPSTREAM,
    Connect,
    KeepFacts,
    Locate,
    Random,
    RecallFacts,
    RequestGrant,
    StartTls,
)
from tests.support import mysql_bytes as my
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.mysql.conversation import (
    FACTS,
    LOCATION,
    RANDOM,
    asked,
    cold,
    dials,
    door,
    flags_of,
    grant,
    greeted,
    refused,
    secures,
    shows_token,
    warm,
)
from tollbridge.reasons import Reason


def finish(book: Playbook[Outcome], sequence: int, *, fast: bool = False) -> Established:
    """Upstream says yes; the client reads it under its own numbers."""
    book.upstream(my.packet(my.OK, 5))
    first = my.packet(my.FAST, sequence) if fast else b""
    book.sends(CLIENT, first + my.packet(my.OK, sequence + fast))
    outcome = book.returns()
    assert isinstance(outcome, Established)
    return outcome


def let_in(book: Playbook[Outcome]) -> bytes:
    """Allowed, dialled, secured, shown the token. What was answered to upstream's greeting."""
    book.expect(asked(), grant())
    book, answer = secures(dials(book))
    shows_token(book)
    return answer


def test_a_plaintext_client_is_in_with_its_own_flags() -> None:
    book, greeting = warm()
    assert greeting == my.greeting(
        flags=flags_of(greeting), salt=my.SALT, thread=0
    )  # the server's words, our salt, nobody's thread
    book.client(my.packet(my.response(flags=my.CLIENT | my.TRACK | my.DEPRECATE_EOF, schema="shop"), 1))
    answer = let_in(book)
    flags = int.from_bytes(answer[:4], "little")
    assert flags & (my.TRACK | my.DEPRECATE_EOF) == my.TRACK | my.DEPRECATE_EOF
    assert not flags & (my.QUERY_ATTRIBUTES | my.MULTI_STATEMENTS)
    assert b"shop\0" in answer
    finish(book, 2)
    assert book.notes["schema"] == "shop"


@pytest.mark.parametrize(
    "flag",
    [my.COMPRESS, my.LOCAL_FILES, my.ZSTD, my.MULTI_FACTOR, 1 << 29, 1 << 30, 1 << 31],
    ids=["COMPRESS", "LOCAL_FILES", "ZSTD", "MULTI_FACTOR", "29", "30", "31"],
)
def test_what_the_proxy_cannot_stand_for_is_not_offered(flag: int) -> None:
    assert not flags_of(warm()[1]) & flag


@pytest.mark.parametrize("flag", [my.TRACK, my.DEPRECATE_EOF, my.QUERY_ATTRIBUTES])
def test_a_flag_is_offered_exactly_when_the_server_has_it(flag: int) -> None:
    assert flags_of(warm()[1]) & flag
    assert not flags_of(warm(facts=my.facts(flags=my.SERVER & ~flag))[1]) & flag


def test_tls_is_offered_when_the_listener_has_it_whatever_the_server_says() -> None:
    assert flags_of(warm(facts=my.facts(flags=my.SERVER & ~my.SSL))[1]) & my.SSL
    assert not flags_of(warm(door(tls_available=False))[1]) & my.SSL


def test_local_infile_is_policy() -> None:
    book, greeting = warm(door(local_infile=True))
    assert flags_of(greeting) & my.LOCAL_FILES
    book.client(my.packet(my.response(flags=my.CLIENT | my.LOCAL_FILES), 1))
    assert int.from_bytes(let_in(book)[:4], "little") & my.LOCAL_FILES
    book, _ = warm()
    book.client(my.packet(my.response(flags=my.CLIENT | my.LOCAL_FILES), 1))
    assert not int.from_bytes(let_in(book)[:4], "little") & my.LOCAL_FILES


def test_mariadb_is_mariadb_to_clients_without_commands_in_commands() -> None:
    book, greeting = warm(facts=my.facts("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED))
    assert not flags_of(greeting) & 1
    assert greeting == my.greeting(
        "5.5.5-10.11.8-MariaDB", flags_of(greeting), my.MARIADB_EXTENDED & ~2, salt=my.SALT, thread=0
    )
    book.client(my.packet(my.response(flags=my.CLIENT & ~1, extended=0b1111), 1)).expect(asked(), grant())
    dials(book, my.greeting("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED))
    _, answer = secures(book)
    assert int.from_bytes(answer[:4], "little") & 1 == 0
    assert int.from_bytes(answer[28:32], "little") == 0b1101


def test_flags_that_nobody_has_looked_at_are_not_offered() -> None:
    """One of a MariaDB to come may change what the guard reads."""
    _, greeting = warm(facts=my.facts("5.5.5-13.0.1-MariaDB", my.MARIADB, 0xFFFFFFFF))
    assert greeting == my.greeting("5.5.5-13.0.1-MariaDB", flags_of(greeting), 0b111101, salt=my.SALT, thread=0)


def test_a_mysql_client_of_mariadb_stays_one() -> None:
    book, _ = warm(facts=my.facts("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED))
    book.client(my.packet(my.response(extended=0b1101), 1)).expect(asked(), grant())
    dials(book, my.greeting("5.5.5-10.11.8-MariaDB", my.MARIADB, my.MARIADB_EXTENDED))
    _, answer = secures(book)
    assert int.from_bytes(answer[:4], "little") & 1 == 1
    assert answer[28:32] == bytes(4)


def test_a_client_hello_right_behind_the_ssl_request_goes_into_tls() -> None:
    book, _ = warm()
    book.client(my.packet(my.ssl_request(), 1) + b"\x16\x03\x01hello")
    book.expect(StartTls(CLIENT), FACTS)
    assert book.given_to_tls[CLIENT] == b"\x16\x03\x01hello"
    book.client(my.packet(my.response(flags=my.CLIENT | my.SSL, auth=b"x" * 32), 2))
    let_in(book)
    finish(book, 3, fast=True)


def test_a_client_that_skips_tls_where_it_is_required_gets_nothing() -> None:
    book, _ = warm(door(tls_required=True))
    book.client(my.packet(my.response(auth=b"x" * 32), 1))
    code, state, text = refused(book, 2)
    assert (code, state) == (3159, "HY000")
    assert "--ssl" in text
    assert book.raises(Refused).reason is Reason.CLIENT_TLS_REQUIRED


def test_a_client_that_wants_tls_where_there_is_none_is_told_so() -> None:
    book, _ = warm(door(tls_available=False))
    book.client(my.packet(my.ssl_request(), 1))
    said = book.sent(CLIENT)
    assert said[4:7] == b"\xff" + (1235).to_bytes(2, "little")
    assert book.raises(Refused).reason is Reason.FEATURE_REFUSED


def test_the_workload_is_the_certificates_where_the_listener_fixes_none() -> None:
    book, _ = warm(door(workload=None))
    book.client(my.packet(my.ssl_request(), 1)).expect(StartTls(CLIENT), FACTS)
    book.client(my.packet(my.response(), 2)).expect(asked(), grant())
    book, _ = warm(door(workload=None))
    book.client(my.packet(my.ssl_request(), 1)).expect(StartTls(CLIENT), PeerFacts())
    book.client(my.packet(my.response(), 2))
    assert refused(book, 3)[0] == 1045
    assert book.raises(Refused).reason is Reason.CLIENT_UNIDENTIFIED


def test_a_scramble_is_recognised_at_once_whatever_it_is() -> None:
    """caching_sha2_password's fast path: MySQL 9's clients have nothing else."""
    book, greeting = warm()
    assert greeting.endswith(b"caching_sha2_password\0")
    book.client(my.packet(my.response(auth=b"\xff" * 32), 1))
    let_in(book)
    finish(book, 2, fast=True)


@pytest.mark.parametrize("nothing", [b"", b"\0"])
def test_a_client_without_a_password_waits_for_no_word(nothing: bytes) -> None:
    book, _ = warm()
    book.client(my.packet(my.response(auth=nothing), 1))
    let_in(book)
    finish(book, 2)


@pytest.mark.parametrize(
    ("theirs", "asked_for", "fast"),
    [("mysql_native_password", b"mysql_native_password", False), ("dialog", b"caching_sha2_password", True)],
)
def test_a_client_with_another_method_is_met(theirs: str, asked_for: bytes, fast: bool) -> None:
    book, _ = warm()
    book.client(my.packet(my.response(plugin=theirs), 1))
    book.sends(CLIENT, my.packet(b"\xfe" + asked_for + b"\0" + my.SALT + b"\0", 2))
    book.client(my.packet(b"z" * 20, 3))
    let_in(book)
    finish(book, 4, fast=fast)


def test_mysql_clear_password_is_never_asked_for() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(plugin="mysql_clear_password", auth=b"hunter2\0"), 1))
    assert b"clear" not in book.sent(CLIENT)


def test_a_proof_that_is_no_scramble_is_a_violation() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(plugin="mysql_native_password"), 1))
    book.sent(CLIENT)
    book.client(b"\xff\xff\0\x03")
    assert refused(book, 4)[0] == 1043
    book.raises(Refused)


def test_a_client_before_plugins_is_in_with_ok_alone() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(flags=my.CLIENT & ~my.PLUGIN_AUTH, auth=b"x" * 20), 1))
    let_in(book)
    finish(book, 2)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (my.response(flags=my.CLIENT | my.COMPRESS), "compression"),
        (my.response(flags=my.CLIENT | my.ZSTD) + b"\x03", "compression"),
        (b"\x05\xa0\0\0\x01app\0", "4.1"),
        (my.response(flags=my.CLIENT & ~my.P41), "4.1"),
    ],
)
def test_what_is_not_spoken_is_refused(payload: bytes, why: str) -> None:
    book, _ = warm()
    book.client(my.packet(payload, 1))
    assert why in book.sent(CLIENT).decode("latin-1")
    assert book.raises(Refused).reason is Reason.FEATURE_REFUSED


def test_a_listener_routed_by_login_name_greets_with_its_version_and_what_every_server_has() -> None:
    at = door(database=None, by_login_name=True, server_version="8.0.36")
    book: Playbook[Outcome] = Playbook(MysqlEngine().login(at))
    book.expect(Random(20), RANDOM)
    greeting = greeted(book)
    assert greeting.startswith(b"\x0a8.0.36\0")
    assert not flags_of(greeting) & (my.QUERY_ATTRIBUTES | my.DEPRECATE_EOF | my.TRACK | my.COMPRESS | my.LOCAL_FILES)
    assert flags_of(greeting) & (my.MULTI_STATEMENTS | my.PS_MULTI_RESULTS | my.WITH_DB)
    book.client(my.packet(my.response("jane@corp@orders"), 1)).expect(asked("jane@corp"), grant(user="jane@corp"))
    dials(book).answer(KeepFacts)
    _, answer = secures(book)
    assert answer[32:].startswith(b"jane@corp\0")


def test_a_login_name_without_a_database_is_told_how_it_is_written() -> None:
    at = door(database=None, by_login_name=True, server_version="8.0.36")
    book: Playbook[Outcome] = Playbook(MysqlEngine().login(at))
    book.expect(Random(20), RANDOM)
    greeted(book)
    book.client(my.packet(my.response("app"), 1))
    code, state, text = refused(book, 2)
    assert (code, state) == (1049, "42000")
    assert "db_user@database" in text


def test_a_version_of_the_listener_or_the_database_stands_in_for_facts() -> None:
    for at, location in (
        (door(server_version="8.4.0"), LOCATION),
        (door(), replace(LOCATION, server_version="8.4.0")),
    ):
        book: Playbook[Outcome] = Playbook(MysqlEngine().login(at))
        book.expect(Locate("orders"), location).expect(RecallFacts(find_out=False), None).expect(Random(20), RANDOM)
        assert greeted(book).startswith(b"\x0a8.4.0\0")  # and nobody was dialled


def test_a_cold_endpoint_is_dialled_once_and_that_connection_serves_the_login() -> None:
    book, greeting = cold()
    assert greeting[1 + len("8.0.40\0") :].startswith((7).to_bytes(4, "little"))  # its thread is the client's
    book.client(my.packet(my.response(), 1)).expect(asked(), grant())
    book, _ = secures(book)  # no Connect
    shows_token(book)
    finish(book, 2)


def test_a_connection_that_waited_too_long_is_replaced() -> None:
    book, _ = cold()
    book.upstream(my.packet(my.error(1159, "Got timeout reading communication packets", ""), 1))
    book.client(my.packet(my.response(), 1)).expect(asked(), grant())
    book.expect(Connect())
    book, _ = cold()
    book.client(my.packet(my.response(), 1)).expect(asked(), grant())
    book.sent(UPSTREAM)
    assert isinstance(book.waiting, StartTls)
    book.fail(PeerClosed(UPSTREAM)).expect(Connect())


def test_a_probe_that_says_nothing_reaches_nobody() -> None:
    book, _ = warm()
    book.closes(CLIENT)
    book.raises(PeerClosed)


def test_a_refusal_before_the_greeting_stands_in_its_place() -> None:
    book: Playbook[Outcome] = Playbook(MysqlEngine().login(door()))
    assert isinstance(book.waiting, Locate)
    book.fail(Refused(Reason.BROKER_UNAVAILABLE, "not yet"))
    said = book.sent(CLIENT)
    assert said[3:7] == b"\0\xff" + (1053).to_bytes(2, "little")
    assert said[7:8] != b"#"  # nobody has said yet that SQLSTATEs are read


def test_a_refusal_has_the_number_that_the_client_waits_for() -> None:
    """A deadline that strikes while it is the client's turn is read behind the packet that it sends next."""
    deadline = Refused(Reason.HANDSHAKE_TIMEOUT, "too slow")
    book, _ = warm()
    assert book.fail(deadline).sent(CLIENT)[3] == 2
    book, _ = warm()
    book.client(my.packet(my.ssl_request(), 1)).expect(StartTls(CLIENT), FACTS)
    assert refused(book.fail(deadline), 3)[0] == 1159
    book, _ = warm()
    book.client(my.packet(my.response(), 1))
    assert refused(book.fail(deadline), 2)[0] == 1159


@pytest.mark.parametrize(
    "packet",
    [
        my.packet(my.response(), 2),
        my.packet(my.response()[:35], 1),
        my.packet(my.response(attributes=b"\x03_os\x09Linux"), 1),
    ],
    ids=["out of turn", "cut", "attributes that lie"],
)
def test_a_client_that_breaks_the_protocol_hears_it(packet: bytes) -> None:
    book, _ = warm()
    book.client(packet)
    said = book.sent(CLIENT)
    assert said[4:7] == b"\xff" + (1043).to_bytes(2, "little")
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


def test_a_user_that_is_no_text_is_a_violation() -> None:
    book, _ = warm()
    book.client(my.packet(my.response().replace(b"app\0", b"\xff\xfe\0"), 1))
    assert "UTF-8" in refused(book, 2)[2]


def test_upstream_is_not_reached_before_the_broker_allows_it() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(), 1))
    assert isinstance(book.waiting, RequestGrant)
    book.fail(Refused(Reason.DB_USER_NOT_ALLOWED, "you may not be app", decision_id="d-9"))
    code, state, text = refused(book, 2)
    assert (code, state) == (1045, "28000")
    assert text.startswith("tollbridge: you may not be app [DB_USER_NOT_ALLOWED, decision d-9]")


def test_what_is_kept_of_a_greeting_comes_back() -> None:
    facts = upstream.Facts(b"8.0.40", my.SERVER, 5, 255)
    assert upstream.Facts.decoded(facts.encoded()) == facts
    assert facts.encoded() == my.facts(extended=5)


def test_only_violations_come_out_of_upstreams_greeting() -> None:
    book: Playbook[Outcome] = Playbook(MysqlEngine().login(door()))
    book.expect(Locate("orders"), LOCATION).expect(RecallFacts(find_out=True), None).expect(Connect())
    book.upstream(my.packet(b"HTTP/1.1 400 Bad Request", 0))
    assert book.sent(CLIENT)[4] == 0xFF
    assert isinstance(book.raises(Refused).__cause__, PeerViolation)
