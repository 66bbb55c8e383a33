"""A CQL client's way in, one conversation a test, and the refusal beside each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.engines.cassandra import CassandraEngine
from proxy.engines.cassandra.handshake import host_id
from proxy.engines.cassandra.refusals import StreamRefused
from proxy.errors import PeerViolation, Refused
from proxy.model import Established, Finished, PeerFacts
from proxy.script import CLIENT, UPSTREAM, Connect, Now, OwnAddress, RevealKey, StartTls
from tests.support import cql
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.cassandra.conversation import (
    BY_NAME,
    DOOR,
    ENDPOINT,
    GRANT,
    KEY,
    LOCATION,
    NAMELESS,
    NOW,
    PROOF,
    TOKEN,
    WORKLOAD,
    asked,
    dialled,
    done,
    entered,
    opened,
    proven,
)
from tollbridge.reasons import Reason

REJECTED = cql.error(0x0100, "Authentication failure: the security token is expired")


@pytest.mark.parametrize("version", [3, 4])
def test_a_listener_with_a_db_user_asks_its_clients_for_nothing(version: int) -> None:
    """AllowAllAuthenticator: STARTUP is the login, and READY its answer, on the client's stream and in its version."""
    book = opened().client(cql.startup(version=version, stream=5))
    entered(proven(dialled(book, version=version), version=version), version=version)
    book.sends(CLIENT, cql.answer(cql.READY, version=version, stream=5))
    done(book)
    assert book.notes["driver"] == "test"


def test_elsewhere_a_client_names_its_role_and_any_password_will_do() -> None:
    book = opened(NAMELESS).client(cql.startup(stream=1)).sends(CLIENT, cql.authenticate(stream=1))
    book.client(cql.plain("role/reader", "no secret at all", stream=2))
    entered(proven(dialled(book)))
    book.sends(CLIENT, cql.success(stream=2))
    done(book)


def test_a_login_name_that_routes() -> None:
    """db_user@database, split at the last @."""
    book = opened(BY_NAME).client(cql.startup()).sends(CLIENT, cql.authenticate())
    book.client(cql.plain("a@b@events")).expect(asked("a@b"), GRANT)
    book = opened(BY_NAME).client(cql.startup()).sends(CLIENT, cql.authenticate())
    code, said = cql.read_error(book.client(cql.plain("role/reader", stream=9)).sent(CLIENT))
    assert code == 0x0100
    assert "routed by login name" in said


@pytest.mark.parametrize("token", [cql.long(b""), cql.long(None), cql.long(b"\0a\0b\0c"), cql.long(b"reader")])
def test_a_token_that_is_not_plain(token: bytes) -> None:
    book = opened(NAMELESS).client(cql.startup()).sends(CLIENT, cql.authenticate())
    code, said = cql.read_error(book.client(cql.frame(cql.AUTH_RESPONSE, token)).sent(CLIENT))
    assert code == 0x000A
    assert "not of PLAIN" in said
    book.raises(Refused)


def test_a_client_with_the_sigv4_plugin_is_told_to_leave_it_out() -> None:
    book = opened(NAMELESS).client(cql.startup()).sends(CLIENT, cql.authenticate())
    _, said = cql.read_error(book.client(cql.frame(cql.AUTH_RESPONSE, cql.long(cql.SIGV4))).sent(CLIENT))
    assert "the proxy signs for you" in said


def test_options_are_answered_without_anybody_being_asked() -> None:
    """Compression is named, because drivers look the name up, and has no values. Health checks cost nobody anything."""
    book = opened().client(cql.frame(cql.OPTIONS, stream=3))
    said = book.sent(CLIENT)
    assert said[:9] == cql.answer(cql.SUPPORTED, said[9:], stream=3)[:9]
    assert cql.text("COMPRESSION") + b"\0\0" in said
    assert cql.text("PROTOCOL_VERSIONS") + b"\0\x02" + cql.text("3/v3") + cql.text("4/v4") in said
    book.client(cql.frame(cql.OPTIONS, stream=4))
    assert book.sent(CLIENT)[2:4] == b"\0\x04"


@pytest.mark.parametrize("version", [5, 6, 0x41, 0x42, 71])
def test_versions_that_are_not_spoken_are_told_which_are(version: int) -> None:
    """In a frame of version 4, on their stream, in the words that drivers look for; nobody is asked or dialled."""
    book = opened().client(cql.frame(cql.STARTUP, b"", version=version, stream=2))
    text = f"Invalid or unsupported protocol version ({version}); supported versions are (3/v3, 4/v4)"
    book.sends(CLIENT, cql.error(0x000A, text, stream=2))
    assert isinstance(book.returns(), Finished)


@pytest.mark.parametrize("version", [1, 2])
def test_versions_of_old_are_answered_though_their_headers_are_shorter(version: int) -> None:
    """OPTIONS of version 2 is eight bytes in all: a ninth would never come."""
    book = opened().client(bytes([version, 0, 0, cql.OPTIONS]) + bytes(4))
    assert b"unsupported protocol version (%d)" % version in book.sent(CLIENT)
    assert isinstance(book.returns(), Finished)


def test_compression_is_refused_in_words() -> None:
    """It was not offered; a client that wants it all the same is told."""
    book = opened().client(cql.startup({"CQL_VERSION": "3.0.0", "compression": "lz4"}, stream=6))
    code, said = cql.read_error(book.sent(CLIENT))
    assert code == 0x000A
    assert "compression 'lz4' was not offered" in said
    assert "unsupported protocol version" not in said
    assert book.raises(Refused).reason is Reason.FEATURE_REFUSED


def test_an_empty_compression_is_none_and_goes_no_further() -> None:
    book = opened().client(cql.startup({"COMPRESSION": "", "CQL_VERSION": "3.0.0"})).expect(asked(), GRANT)
    book.expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.sends(UPSTREAM, cql.startup({"CQL_VERSION": "3.0.0"}))


@pytest.mark.parametrize("opcode", [cql.QUERY, cql.REGISTER, cql.AUTH_RESPONSE, cql.READY, 0xFF])
def test_nothing_is_asked_before_a_login(opcode: int) -> None:
    book = opened().client(cql.frame(opcode, b"x" * 100, stream=1))
    code, said = cql.read_error(book.sent(CLIENT))
    assert code == 0x000A
    assert f"opcode {opcode:#04x} before a login" in said
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL


def test_a_second_startup_and_a_change_of_version_are_refused() -> None:
    book = opened(NAMELESS).client(cql.startup()).sends(CLIENT, cql.authenticate())
    assert b"opcode 0x01 before an AUTH_RESPONSE" in book.client(cql.startup()).sent(CLIENT)
    book = opened(NAMELESS).client(cql.startup()).sends(CLIENT, cql.authenticate())
    assert b"protocol version 4 is spoken" in book.client(cql.plain("app", version=3)).sent(CLIENT)


def test_frames_without_end_are_counted_and_large_ones_are_not_taken_in() -> None:
    book = opened().client(cql.frame(cql.OPTIONS) * 16)
    assert b"16 frames and no login" in book.sent(CLIENT)
    book = opened().client(b"\x04\0\0\0\x01\x7f\xff\xff\xff" + b"x" * 1000)
    assert b"has 2147483647 bytes" in book.sent(CLIENT)


def test_tls_comes_first_where_the_client_begins_with_it() -> None:
    """No STARTTLS: a ClientHello is the first byte. Its certificate says who it is."""
    book = opened(replace(DOOR, workload=None)).client(b"\x16rest")
    book.expect(StartTls(CLIENT), PeerFacts(identity=WORKLOAD))
    assert book.given_to_tls[CLIENT] == b"\x16rest"
    book.client(cql.startup()).expect(asked(), GRANT)


def test_a_client_that_nothing_identifies_has_bad_credentials() -> None:
    """Not a server error: drivers would try again for ever."""
    code, said = cql.read_error(opened(replace(DOOR, workload=None)).client(cql.startup()).sent(CLIENT))
    assert code == 0x0100
    assert "CLIENT_UNIDENTIFIED" in said


def test_plaintext_where_tls_is_required_and_tls_where_there_is_none() -> None:
    book = opened(replace(DOOR, tls_required=True)).client(cql.frame(cql.OPTIONS, stream=3))
    said = book.sent(CLIENT)
    assert cql.read_error(said)[0] == 0x000A
    assert b"CLIENT_TLS_REQUIRED" in said
    assert said[2:4] == b"\0\x03"
    assert b"has no TLS" in opened(replace(DOOR, tls_available=False)).client(b"\x16\x03\x01").sent(CLIENT)


def test_the_brokers_no_is_bad_credentials_on_the_clients_stream() -> None:
    book = opened().client(cql.startup(stream=11))
    assert book.waiting == asked()
    book.fail(Refused(Reason.DB_USER_NOT_ALLOWED, "no rule lets you be role/reader", decision_id="d-9"))
    said = book.sent(CLIENT)
    code, text = cql.read_error(said)
    assert (code, said[2:4]) == (0x0100, b"\0\x0b")
    assert text.startswith(
        "tollbridge: no rule lets you be role/reader [DB_USER_NOT_ALLOWED, decision d-9]: ask the op"
    )


def test_a_rejected_proof_is_told_to_the_broker_and_the_login_repeated_once() -> None:
    """The second refusal names the likely causes; what was shown is in none of it."""
    fresh = replace(GRANT, credential_id="c-2", decision_id="d-2")
    book = proven(dialled(opened().client(cql.startup(stream=1)))).upstream(REJECTED)
    proven(dialled(book, fresh, asked(rejected="c-1")), fresh).upstream(REJECTED)
    said = book.sent(CLIENT)
    code, text = cql.read_error(said)
    assert code == 0x0100
    assert text.startswith(f"tollbridge: {ENDPOINT} refused a fresh signature of role 'role/reader' (Authentication f")
    assert "clock" in text
    assert TOKEN.encode() not in said
    assert book.raises(Refused).decision_id == "d-2"


def test_a_rejection_that_the_second_credential_mends() -> None:
    fresh = replace(GRANT, credential_id="c-2")
    book = proven(dialled(opened().client(cql.startup()))).upstream(REJECTED)
    entered(proven(dialled(book, fresh, asked(rejected="c-1")), fresh))
    book.sends(CLIENT, cql.answer(cql.READY))
    done(book)


@pytest.mark.parametrize("code", [0x0000, 0x1001, 0x2100])
def test_the_servers_other_errors_arrive_with_code_and_words(code: int) -> None:
    """No second try for what no credential can mend."""
    book = proven(dialled(opened().client(cql.startup(stream=4)))).upstream(cql.error(code, "too many"))
    book.sends(CLIENT, cql.error(code, "too many", stream=4))
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


def test_an_error_of_a_kind_that_has_more_than_words_becomes_a_plain_one() -> None:
    """0x1000 is followed by a consistency and two counts, which drivers would look for."""
    book = proven(dialled(opened().client(cql.startup()))).upstream(
        cql.answer(cql.ERROR, b"\0\0\x10\0" + cql.text("no nodes") + b"\0\x01\0\0\0\x01\0\0\0\0")
    )
    book.sends(CLIENT, cql.error(0x0000, "no nodes"))


def test_the_servers_words_are_readable_wherever_they_are_shown() -> None:
    """A driver decodes them, and a terminal obeys what it is sent."""
    book = proven(dialled(opened().client(cql.startup())))
    book.upstream(cql.answer(cql.ERROR, b"\0\0\x10\x01" + cql.text(b"first\r\nsecond\x1b[31m\xff")))
    book.sends(CLIENT, cql.error(0x1001, "first  second [31m\ufffd"))
    assert "\n" not in str(book.raises(Refused))


@pytest.mark.parametrize("quoted", [TOKEN, TOKEN[:20], PROOF.decode()[10:40]])
def test_an_error_that_quotes_the_proof_is_not_shown(quoted: str) -> None:
    book = proven(dialled(opened().client(cql.startup()))).upstream(cql.error(0x0000, f"no: {quoted}!"))
    code, text = cql.read_error(book.sent(CLIENT))
    assert (code, text) == (0, "(an error that quotes the credential; not shown)")
    assert quoted not in str(book.raises(Refused))


def test_a_server_that_wants_a_password_is_shown_nothing() -> None:
    """Cassandra's own PasswordAuthenticator takes the mechanism's name for a login."""
    book = dialled(opened().client(cql.startup())).upstream(cql.error(0x0100, "Password must not be null"))
    code, text = cql.read_error(book.sent(CLIENT))
    assert code == 0x0100
    assert "does not know SigV4" in text


@pytest.mark.parametrize(
    "answer",
    [
        cql.answer(cql.AUTH_CHALLENGE, cql.long(b"nonce=short")),
        cql.answer(cql.AUTH_CHALLENGE, cql.long(None)),
        cql.answer(cql.AUTH_CHALLENGE, b"\x7f\xff\xff\xff"),
        cql.success(),
        cql.answer(cql.READY),
        cql.challenge(version=3),
        cql.challenge(stream=1),
        cql.challenge(flags=1),
        cql.frame(cql.AUTH_CHALLENGE, cql.long(b"nonce=" + cql.NONCE)),
        b"\x84\0\0\0\x0e\0\x10\0\0",
    ],
)
def test_a_challenge_that_is_none_opens_no_grant(answer: bytes) -> None:
    """Whatever comes in its place: the key stays sealed, and the client hears of the endpoint's fault."""
    book = dialled(opened().client(cql.startup())).upstream(answer)
    assert cql.read_error(book.sent(CLIENT))[0] == 0x0000
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_server_that_asks_again_gets_no_second_proof() -> None:
    book = proven(dialled(opened().client(cql.startup()))).upstream(cql.challenge())
    assert b"answered the proof with opcode 0x0e" in book.sent(CLIENT)
    assert book.raises(Refused).reason is Reason.UPSTREAM_PROTOCOL


def test_a_server_that_asks_for_nothing_is_shown_nothing() -> None:
    book = opened().client(cql.startup()).expect(asked(), GRANT).expect(Connect())
    book.expect(StartTls(UPSTREAM), PeerFacts()).sends(UPSTREAM, cql.startup()).upstream(cql.answer(cql.READY))
    book.expect(OwnAddress(), None).sends(CLIENT, cql.answer(cql.READY))
    done(book)


def test_no_proof_on_a_day_that_the_grant_does_not_know() -> None:
    """The proxy's clock, or the broker's, is wrong, and which is to be found out."""
    book = dialled(opened().client(cql.startup())).upstream(cql.challenge())
    book.expect(RevealKey(GRANT), KEY).expect(Now(), NOW.replace(year=2031))
    code, text = cql.read_error(book.sent(CLIENT))
    assert code == 0
    assert "CLOCK_SKEWED" in text


def test_the_node_has_one_id_behind_every_replica() -> None:
    """And another database another one."""
    mine = host_id(LOCATION.database, ENDPOINT)
    assert mine == host_id("events", ENDPOINT)
    assert mine != host_id("other", ENDPOINT)
    assert (mine[6] >> 4, mine[8] >> 6) == (8, 2)


def test_a_session_ends_without_a_word_unless_a_request_was_the_reason() -> None:
    """An answer to a request that was never made throws in Node.js's driver, in the middle of the application."""
    book = opened().client(cql.startup(version=3))
    entered(proven(dialled(book, version=3), version=3), version=3).sends(CLIENT, cql.answer(cql.READY, version=3))
    outcome = done(book)
    for reason in (Reason.DRAINING, Reason.SESSION_IDLE, Reason.SESSION_TOO_LONG):
        assert outcome.farewell(Refused(reason, "over")) == b""
    assert outcome.farewell(StreamRefused(Reason.UPSTREAM_PROTOCOL, "broken news", -1)) == b""
    said = outcome.farewell(StreamRefused(Reason.FEATURE_REFUSED, "not here", 7))
    assert (said[0], said[2:4]) == (0x83, b"\0\x07")
    assert cql.read_error(said)[0] == 0x000A
    assert outcome.at_rest(b"whatever")


def test_what_came_with_the_login_is_left_for_the_relay() -> None:
    later = cql.frame(cql.QUERY, b"select", stream=7)
    book = opened().client(cql.startup() + later)
    entered(proven(dialled(book))).sends(CLIENT, cql.answer(cql.READY))
    done(book)
    assert book.unread(CLIENT) == later


class TestProbe:
    """The upstream half alone, as `check` runs it."""

    OURS = cql.startup({"CQL_VERSION": "3.0.0", "DRIVER_NAME": "tollbridge"})

    def logged_in(self) -> Playbook[str]:
        book = Playbook(
            CassandraEngine().probe(workload=WORKLOAD, database="events", db_user="role/reader", db_name="")
        )
        book.expect(asked(), GRANT).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
        book.sends(UPSTREAM, self.OURS).upstream(cql.authenticate())
        book.sends(UPSTREAM, cql.frame(cql.AUTH_RESPONSE, cql.long(cql.SIGV4)))
        book.upstream(cql.challenge()).expect(RevealKey(GRANT), KEY).expect(Now(), NOW)
        book.sends(UPSTREAM, cql.frame(cql.AUTH_RESPONSE, cql.long(PROOF))).upstream(cql.success())
        query = b"SELECT release_version FROM system.local"
        return book.sends(UPSTREAM, cql.frame(cql.QUERY, cql.long(query) + b"\0\x0a\0"))

    def test_it_logs_in_and_asks_what_every_driver_asks(self) -> None:
        """And says the release."""
        columns = cql.metadata("local", [("release_version", cql.TEXT)])
        book = self.logged_in().upstream(cql.answer(cql.RESULT, cql.rows(columns, [b"3.11.2"])))
        assert "3.11.2" in book.returns()
        assert book.notes["step"] == "login"

    def test_a_role_that_may_not_read_it_is_told_what_to_allow(self) -> None:
        """Every driver would fail with it."""
        said = "User arn:aws:iam::222222222222:user/x has no permissions."
        refused = self.logged_in().upstream(cql.error(0x2100, said)).raises(Refused)
        assert "cassandra:Select" in refused.message
        assert said in refused.message

    @pytest.mark.parametrize(
        "body", [b"\0\0\0\1", b"", cql.rows(cql.metadata("local", [("a", cql.TEXT)])), b"\0\0\0\2" * 9]
    )
    def test_an_answer_that_is_none(self, body: bytes) -> None:
        self.logged_in().upstream(cql.answer(cql.RESULT, body)).raises(PeerViolation)


def test_a_session_is_watched_on_both_sides_from_its_start() -> None:
    book = opened().client(cql.startup())
    entered(proven(dialled(book))).sends(CLIENT, cql.answer(cql.READY))
    outcome = book.returns()
    assert isinstance(outcome, Established)
    assert outcome.guard is not None
    assert outcome.guard.watches_upstream
