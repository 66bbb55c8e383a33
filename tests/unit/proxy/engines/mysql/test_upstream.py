"""The upstream half: nothing for servers that have proved nothing, one proof for those that have, and the probe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.engines.mysql import MysqlEngine
from proxy.errors import PeerClosed, PeerViolation, Refused
from proxy.model import Outcome, PeerFacts
from proxy.script import CLIENT, UPSTREAM, Connect, KeepFacts, Reveal, StartTls
from tests.support import mysql_bytes as my
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.mysql.conversation import (
    LOCATION,
    TOKEN,
    asked,
    cold,
    dials,
    grant,
    nothing_was_shown,
    refused,
    secures,
    shows_token,
    warm,
)
from tollbridge.model import Endpoint
from tollbridge.reasons import Reason


def at_greeting(flags: int = my.CLIENT) -> Playbook[Outcome]:
    """A client has asked and is allowed; upstream is dialled and has said nothing."""
    book, _ = warm()
    book.client(my.packet(my.response(flags=flags), 1)).expect(asked(), grant())
    return book.expect(Connect())


def at_verdict() -> Playbook[Outcome]:
    """Upstream is on verified TLS and has our answer."""
    book, _ = warm()
    book.client(my.packet(my.response(), 1)).expect(asked(), grant())
    book, _ = secures(dials(book))
    return book


def test_the_answer_carries_no_credential_and_fits_no_account_without_a_password() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(auth=b"x" * 32), 1)).expect(asked(), grant())
    _, answer = secures(dials(book))
    assert TOKEN.encode() not in answer
    assert answer[32:69] == b"app\0" + b"\x20" + bytes(range(32))


def test_a_server_without_tls_gets_nothing() -> None:
    book = at_greeting().upstream(my.packet(my.greeting(flags=my.SERVER & ~my.SSL), 0))
    book.answer(KeepFacts)
    assert book.sent(UPSTREAM) == b""
    assert refused(book, 2)[0] == 1429
    assert book.raises(Refused).reason is Reason.UPSTREAM_TLS_REFUSED
    nothing_was_shown(book)


def test_a_server_that_asks_for_the_password_before_tls_gets_nothing() -> None:
    """An AuthSwitch in TLS's place: the driver calls any byte there a violation."""
    book = at_greeting().upstream(my.packet(my.greeting(), 0) + my.packet(my.ASKS_TOKEN, 2))
    book.sent(UPSTREAM)
    book.expect(StartTls(UPSTREAM), PeerFacts())
    assert refused(book, 2)[0] == 1429
    nothing_was_shown(book)


def test_an_authswitch_in_the_greetings_place_gets_nothing() -> None:
    book = at_greeting().upstream(my.packet(my.ASKS_TOKEN, 0))
    assert book.sent(UPSTREAM) == b""
    assert refused(book, 2)[0] == 1429
    nothing_was_shown(book)


def test_a_wrong_name_gets_nothing() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(), 1)).expect(asked(), grant())
    dials(book).sent(UPSTREAM)
    assert isinstance(book.waiting, StartTls)
    book.fail(Refused(Reason.UPSTREAM_TLS_UNVERIFIED, "another name"))
    assert refused(book, 2)[0] == 1429
    nothing_was_shown(book)


@pytest.mark.parametrize(
    ("code", "reason", "ours"),
    [
        (1040, Reason.TOO_MANY_CONNECTIONS, 1040),
        (1129, Reason.DATABASE_REFUSED, 1045),
        (1130, Reason.DATABASE_REFUSED, 1045),
        (1053, Reason.UPSTREAM_CLOSED, 1159),
        (1234, Reason.UPSTREAM_PROTOCOL, 1429),
    ],
)
def test_an_error_before_tls_is_told_by_its_number_alone(code: int, reason: Reason, ours: int) -> None:
    book = at_greeting().upstream(my.packet(my.error(code, "pay me at evil.example", ""), 0))
    said, _state, text = refused(book, 2)
    assert said == ours
    assert str(code) in text
    assert "evil" not in text
    assert book.raises(Refused).reason is reason


def test_flags_that_the_server_lost_are_told_as_1053_and_forgotten() -> None:
    book = at_greeting(my.CLIENT | my.QUERY_ATTRIBUTES | my.TRACK)
    fewer = my.SERVER & ~my.QUERY_ATTRIBUTES & ~my.TRACK
    book.upstream(my.packet(my.greeting("8.0.11", fewer), 0))
    book.expect(KeepFacts(my.facts("8.0.11", fewer)))
    code, state, text = refused(book, 2)
    assert (code, state) == (1053, "08S01")
    assert "QUERY_ATTRIBUTES" in text
    assert "SESSION_TRACK" in text
    nothing_was_shown(book)


def test_flags_that_change_no_answer_may_get_lost() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(attributes=b"\x03_os\x05Linux"), 1)).expect(asked(), grant())
    dials(book, my.greeting(flags=my.SERVER & ~my.ATTRS)).answer(KeepFacts)
    _, answer = secures(book)
    assert b"Linux" not in answer


def test_news_of_the_server_are_kept_and_old_news_are_not() -> None:
    book = at_greeting().upstream(my.packet(my.greeting("8.4.2"), 0))
    book.expect(KeepFacts(my.facts("8.4.2")))
    book = at_greeting().upstream(my.packet(my.greeting(), 0))
    assert not isinstance(book.waiting, KeepFacts)


def test_the_token_is_shown_once() -> None:
    book = shows_token(at_verdict())
    book.upstream(my.packet(my.ASKS_TOKEN, 5))
    assert "second proof" in refused(book, 2)[2]


@pytest.mark.parametrize(
    ("packet", "named"),
    [
        (b"\xfemysql_native_password\0" + bytes(20) + b"\0", "mysql_native_password"),
        (b"\xfedialog\0\x04Password: ", "pam_use_cleartext_plugin"),
        (b"\xfe", "mysql_old_password"),
        (b"\x01\x04", "caching_sha2_password"),
        (b"\xfeclient_ed25519\0" + bytes(32), "client_ed25519"),
    ],
)
def test_a_method_that_no_token_fits_is_refused_by_name(packet: bytes, named: str) -> None:
    book = at_verdict().upstream(my.packet(packet, 3))
    code, _state, text = refused(book, 2)
    assert code == 1045
    assert named in text
    assert "AWSAuthenticationPlugin" in text
    nothing_was_shown(book)


def test_a_refusal_without_a_question_says_what_the_account_lacks() -> None:
    book = at_verdict().upstream(my.packet(my.error(1045, "Access denied (using password: YES)"), 3))
    assert "without asking for the token" in refused(book, 2)[2]
    assert book.raises(Refused).decision_id == "decision-1"


def test_a_rejected_token_is_replaced_once() -> None:
    book = shows_token(at_verdict())
    book.upstream(my.packet(my.error(1045, "Access denied"), 5)).expect(asked(rejected="cred-1"), grant(2))
    book, _ = secures(dials(book))
    shows_token(book, 2).upstream(my.packet(my.OK, 5))
    book.sends(CLIENT, my.packet(my.OK, 2)).returns()


def test_a_second_rejection_names_the_likely_causes_within_what_clients_keep() -> None:
    book = shows_token(at_verdict())
    book.upstream(my.packet(my.error(1045, "Access denied"), 5)).expect(asked(rejected="cred-1"), grant(2))
    book, _ = secures(dials(book))
    shows_token(book, 2).upstream(my.packet(my.error(1045, "Access denied"), 5))
    _code, _state, text = refused(book, 2)
    for cause in ("rds-db:connect", "AWSAuthenticationPlugin", "IAM authentication is off", "CNAME", "decision-2"):
        assert cause in text
    assert len(text.encode()) <= 511
    assert TOKEN not in text


def test_the_databases_own_words_reach_the_client_unchanged() -> None:
    book = shows_token(at_verdict())
    book.upstream(my.packet(my.error(1049, "Unknown database 'shop'", "42000"), 5))
    assert refused(book, 2) == (1049, "42000", "Unknown database 'shop'")
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


@pytest.mark.parametrize("packet", [b"\x07what", b"\x01\x09", b"\x02second factor"])
def test_what_belongs_to_no_login_is_a_violation(packet: bytes) -> None:
    book = at_verdict().upstream(my.packet(packet, 3))
    refused(book, 2)
    assert isinstance(book.raises(Refused).__cause__, PeerViolation)


def test_a_server_that_never_decides_is_left() -> None:
    book = at_verdict()
    for sequence in range(3, 7):
        book.upstream(my.packet(b"\x01\x03", sequence))
    assert "end of the login" in refused(book, 2)[2]


def test_an_oversized_packet_is_refused_by_its_header() -> None:
    book = at_verdict().upstream(b"\xff\xff\x7f\x03")
    assert "8388607 bytes" in refused(book, 2)[2]


def test_a_server_that_hangs_up_is_told_apart() -> None:
    book = at_verdict().closes(UPSTREAM)
    assert refused(book, 2)[0] == 1159
    assert isinstance(book.raises(Refused).__cause__, PeerClosed)


def test_a_database_that_moved_is_dialled_where_the_grant_says() -> None:
    """The held connection of a cold endpoint is for that endpoint alone."""
    book, _ = cold()
    moved = replace(LOCATION, endpoint=Endpoint(host="other.example", port=3306))
    book.client(my.packet(my.response(), 1)).expect(asked(), grant(location=moved))
    book.expect(Connect())


def test_the_user_of_the_grant_logs_in() -> None:
    book, _ = warm()
    book.client(my.packet(my.response(), 1)).expect(asked(), grant(user="IAM:app"))
    _, answer = secures(dials(book))
    assert answer[32:].startswith(b"IAM:app\0")


def probe() -> Playbook[str]:
    """A probe that the server has let in."""
    book = Playbook(MysqlEngine().probe(workload="spiffe://td/shop", database="orders", db_user="app", db_name=""))
    book.expect(asked(), grant()).expect(Connect()).upstream(my.packet(my.greeting("8.0.36"), 0))
    book.answer(KeepFacts)
    book.sent(UPSTREAM)
    book.expect(StartTls(UPSTREAM), PeerFacts())
    book.answer(type(book.waiting), bytes(32))  # type: ignore[arg-type]
    assert b"program_name" in book.sent(UPSTREAM)
    book.upstream(my.packet(my.ASKS_TOKEN, 3)).expect(Reveal(grant()), TOKEN).sent(UPSTREAM)
    return book.upstream(my.packet(my.OK, 5))


ROWS = (
    my.packet(b"\x01", 1)
    + my.packet(b"\x03def\0\0\0\x011\0\x0c\x3f\0\1\0\0\0\x08\x81\0\0\0\0", 2)
    + my.packet(my.EOF_PACKET, 3)
    + my.packet(b"\x011", 4)
)


def test_a_probe_asks_one_question_and_leaves() -> None:
    book = probe().sends(UPSTREAM, my.packet(b"\x03select 1", 0))
    book.upstream(ROWS + my.packet(my.EOF_PACKET, 5)).sends(UPSTREAM, my.packet(b"\x01", 0))
    assert "8.0.36" in book.returns()
    assert book.notes["step"] == "login"


def test_a_probe_that_is_not_answered_says_so() -> None:
    book = probe().sends(UPSTREAM, my.packet(b"\x03select 1", 0))
    book.upstream(my.packet(my.error(1142, "SELECT command denied", "42000"), 1))
    assert "SELECT command denied" in book.raises(Refused).message
