"""The upstream half: TLS or nothing, one proof, a bounded greeting, one second chance, the probe."""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest

from proxy.engines.postgres import PostgresEngine, scram, wire
from proxy.engines.postgres.upstream import ALPN
from proxy.errors import PeerClosed, Refused
from proxy.model import Outcome, PeerFacts
from proxy.script import CLIENT, UPSTREAM, Connect, Random, RequestGrant, Reveal, StartTls
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.postgres.conversation import (
    GREETING,
    LOGIN,
    READY,
    SSL,
    TOKEN,
    WORKLOAD,
    asked,
    asks,
    dials,
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

PAM = error("28000", 'PAM authentication failed for user "app"')


@pytest.mark.parametrize("answer", [b"N", b"E", b"\x15"])
def test_a_server_without_tls_sees_no_login(answer: bytes) -> None:
    """Neither startup nor token goes out, and an error from before TLS is nobody's word (CVE-2024-10977)."""
    book = opened().client(LOGIN).expect(asked(), grant())
    book.expect(Connect()).sends(UPSTREAM, SSL).upstream(answer)
    said = native(book.sent(CLIENT))
    assert said["C"] == "08001"
    assert "ssl = on" in said["M"]
    assert book.raises(Refused).reason is Reason.UPSTREAM_TLS_REFUSED


def test_bytes_behind_the_servers_s_are_a_violation() -> None:
    """Plaintext before TLS is never taken for the server's word."""
    book = opened().client(LOGIN).expect(asked(), grant())
    book.expect(Connect()).sends(UPSTREAM, SSL).upstream(b"S" + GREETING).expect(StartTls(UPSTREAM, ALPN))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_server_that_asks_for_nothing_gets_nothing() -> None:
    """Trust authentication: the token stays sealed."""
    reaches_upstream(opened()).upstream(GREETING).sends(CLIENT, GREETING).returns()


def test_md5() -> None:
    """md5(md5(password + user) + salt), with the grant's user, which Redshift prefixes with IAM:."""
    book = opened().client(LOGIN).expect(asked(), grant(user="IAM:app"))
    dials(book).sends(UPSTREAM, startup(("user", "IAM:app"), ("database", "shop")))
    inner = hashlib.md5(b"pwIAM:app", usedforsecurity=False).hexdigest()
    expected = "md5" + hashlib.md5(inner.encode() + b"salt", usedforsecurity=False).hexdigest()
    book.upstream(asks(5, b"salt")).expect(Reveal(grant(user="IAM:app")), "pw")
    book.sends(UPSTREAM, message(b"p", expected.encode() + b"\0")).upstream(GREETING).sends(CLIENT, GREETING)
    book.returns()


RAW_NONCE = b"n" * scram.NONCE_BYTES
NONCE = base64.b64encode(RAW_NONCE)
SERVER_FIRST = b"r=" + NONCE + b"server,s=" + base64.b64encode(b"salt") + b",i=4096"


def scram_begun(mechanisms: bytes = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0") -> Playbook[Outcome]:
    """The server offers SCRAM and has the client's first message."""
    book = reaches_upstream(opened()).upstream(asks(10, mechanisms)).expect(Random(scram.NONCE_BYTES), RAW_NONCE)
    first = b"n,,n=,r=" + NONCE
    initial = b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first
    return book.sends(UPSTREAM, message(b"p", initial))


def scram_answered() -> tuple[Playbook[Outcome], bytes]:
    """The client's proof is out; the signature that the server must show."""
    book = scram_begun().upstream(asks(11, SERVER_FIRST)).expect(Reveal(grant()), TOKEN)
    final, signature = scram.Exchange(NONCE).answer(SERVER_FIRST, TOKEN)
    return book.sends(UPSTREAM, message(b"p", final)), base64.b64encode(signature)


def test_scram() -> None:
    """Both sides prove that they know the password."""
    book, signature = scram_answered()
    book.upstream(asks(12, b"v=" + signature) + GREETING).sends(CLIENT, GREETING).returns()


@pytest.mark.parametrize(
    "end",
    [
        asks(12, b"v=" + base64.b64encode(b"x" * 32)),
        asks(12, b"v=*"),
        asks(12, b"e=other-error"),
        asks(12),
        asks(0),
        asks(11, SERVER_FIRST),
        message(b"v", struct.pack("!II", 0x30000, 0)),
    ],
)
def test_scram_without_the_servers_proof_is_no_login(end: bytes) -> None:
    """AuthenticationOk alone does not do either."""
    book, _ = scram_answered()
    book.upstream(end + GREETING)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize(
    "server_first",
    [
        b"r=other,s=c2FsdA==,i=4096",
        b"r=" + NONCE + b",s=c2FsdA==,i=4096",
        b"r=" + NONCE + b"x,s=c2FsdA==,i=0",
        b"r=" + NONCE + b"x,s=c2FsdA==,i=%d" % (scram.ITERATION_LIMIT + 1),
        b"r=" + NONCE + b"x,s=c2FsdA==,i=99999999999999999999",
        b"r=" + NONCE + b"x,s=c2F,i=4096",
        b"m=ext,r=" + NONCE + b"x,s=c2FsdA==,i=4096",
        b"",
    ],
)
def test_scram_challenges_that_are_not_ours(server_first: bytes) -> None:
    """A nonce that does not continue ours, work without bound, broken fields."""
    book = scram_begun().upstream(asks(11, server_first)).expect(Reveal(grant()), TOKEN)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("code", [2, 7, 9, 14, 99])
def test_methods_that_are_refused_by_name(code: int) -> None:
    """The message says what was asked for and what to do, and the token stays sealed."""
    book = reaches_upstream(opened()).upstream(asks(code, b"data"))
    said = native(book.sent(CLIENT))
    assert str(code) in said["M"]
    assert "rds_iam" in said["M"]
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


def test_sasl_without_scram_sha_256_is_refused() -> None:
    """The server's own list is in the message."""
    book = reaches_upstream(opened()).upstream(asks(10, b"OAUTHBEARER\0\0"))
    assert "OAUTHBEARER" in native(book.sent(CLIENT))["M"]


def test_a_second_proof_is_not_given() -> None:
    """A server cannot ask for SCRAM and then for the password itself."""
    book = shows_token(reaches_upstream(opened())).upstream(asks(3))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_rejected_credential_is_asked_for_again_once() -> None:
    """The broker hears which one was rejected; the login is repeated on a new connection and succeeds."""
    book = shows_token(reaches_upstream(opened())).upstream(PAM)
    book.expect(asked(rejected="cred-1"), grant(2)).expect(Connect())
    book.sends(UPSTREAM, SSL).upstream(b"S").expect(StartTls(UPSTREAM, ALPN), PeerFacts()).sends(UPSTREAM, LOGIN)
    shows_token(book, 2).upstream(GREETING).sends(CLIENT, GREETING).returns()


def test_a_broker_that_has_no_other_credential() -> None:
    """Its refusal goes to the client, not the server's."""
    book = shows_token(reaches_upstream(opened())).upstream(PAM)
    book.fail(Refused(Reason.DATABASE_REFUSED, "the session is alive: check GRANT rds_iam"))
    assert "rds_iam" in native(book.sent(CLIENT))["M"]


def test_two_rejected_credentials_end_in_the_likely_causes() -> None:
    """Each cause comes with its fix, and the decision id with both."""
    book = shows_token(reaches_upstream(opened())).upstream(error("28P01", "password authentication failed"))
    book.expect(asked(rejected="cred-1"), grant(2))
    shows_token(dials(book).sends(UPSTREAM, LOGIN), 2).upstream(PAM)
    said = native(book.sent(CLIENT))
    assert said["C"] == "28000"
    for cause in ("GRANT rds_iam", "rds-db:connect", "dbuser", "disabled", "another host", "PAM authentication failed"):
        assert cause in said["M"]
    assert book.raises(Refused).decision_id == "decision-2"


def test_a_refusal_before_the_credential_was_shown_is_not_its_fault() -> None:
    """pg_hba.conf says 28000 too: no other token would help, and the server's words say why."""
    hba = error("28000", "no pg_hba.conf entry for host")
    book = reaches_upstream(opened()).upstream(hba).sends(CLIENT, hba)
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


@pytest.mark.parametrize("then", [b"D\0\0\0\4", b"A\0\0\0\4", b"R\0\0\0\x08\0\0\0\0", b"Z\0\0\0\4", b"Z\0\0\0\6II"])
def test_what_does_not_belong_in_a_greeting(then: bytes) -> None:
    """Data, notifications and a second AuthenticationOk are violations."""
    book = shows_token(reaches_upstream(opened())).upstream(asks(0) + then)
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_greeting_without_end() -> None:
    """Notices for ever are cut at the limit, not kept."""
    notice = message(b"N", b"M" + b"x" * 20_000 + b"\0\0")
    book = shows_token(reaches_upstream(opened())).upstream(asks(0))
    for _ in range(wire.GREETING_LIMIT // len(notice) + 1):
        book.upstream(notice)
    assert native(book.sent(CLIENT))["C"] == "08P01"


def test_upstream_that_closes_in_the_middle() -> None:
    """08006, and the client hears it."""
    book = shows_token(reaches_upstream(opened())).closes(UPSTREAM)
    assert native(book.sent(CLIENT))["C"] == "08006"
    assert book.raises(Refused).reason is Reason.UPSTREAM_CLOSED


def test_a_client_that_leaves_is_told_nothing() -> None:
    """There is nobody to tell."""
    opened().client(LOGIN[:5]).closes(CLIENT).raises(PeerClosed)


def probed() -> Playbook[str]:
    """A probe that has logged in."""
    book = Playbook(PostgresEngine().probe(workload=WORKLOAD, database="orders", db_user="app", db_name=""))
    book.expect(RequestGrant(WORKLOAD, "orders", "app", "app"), grant())
    book.expect(Connect()).sends(UPSTREAM, SSL).upstream(b"S").expect(StartTls(UPSTREAM, ALPN), PeerFacts())
    book.sends(UPSTREAM, startup(("user", "app"), ("database", "app"), ("application_name", "tollbridge")))
    book.upstream(asks(3)).expect(Reveal(grant()), TOKEN).sends(UPSTREAM, message(b"p", TOKEN.encode() + b"\0"))
    return book.upstream(GREETING).sends(UPSTREAM, message(b"Q", b"select 1\0"))


def test_a_probe_logs_in_asks_and_leaves() -> None:
    """What it saw names the server's version."""
    rows = message(b"T", b"\0\1..") + message(b"D", b"\0\1\0\0\0\x011") + message(b"C", b"SELECT 1\0") + READY
    book = probed()
    assert book.notes["step"] == "login"  # the query is a step of its own
    book.upstream(rows).sends(UPSTREAM, b"X\0\0\0\4")
    assert "15.20" in book.returns()


def test_a_probe_whose_query_fails() -> None:
    """The server's words are the refusal."""
    refusal = probed().upstream(error("42501", "permission denied")).raises(Refused)
    assert "permission denied" in refusal.message
