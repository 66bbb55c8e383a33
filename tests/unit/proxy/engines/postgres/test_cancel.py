"""Cancel requests: carried to the right server, never answered."""

from __future__ import annotations

import struct

import pytest

from proxy.engines.postgres.upstream import ALPN
from proxy.errors import PeerClosed, Refused
from proxy.model import Door, Finished, Outcome, PeerFacts
from proxy.script import CLIENT, UPSTREAM, AwaitClose, Connect, Locate, Recall, StartTls
from tests.support.playbook import Playbook
from tests.unit.proxy.engines.postgres.conversation import FACTS, KEY, LOCATION, SSL, door, native, opened
from tollbridge.reasons import Reason


def request(key: bytes = KEY) -> bytes:
    """A CancelRequest, built without the codec under test."""
    return struct.pack("!II", 8 + len(key), 80877102) + key


def carried(book: Playbook[Outcome], packet: bytes) -> None:
    """Dial, TLS, the packet unchanged, wait for the server to close, done."""
    book.expect(Connect()).sends(UPSTREAM, SSL).upstream(b"S").expect(StartTls(UPSTREAM, ALPN), PeerFacts())
    book.sends(UPSTREAM, packet)
    assert book.waiting == AwaitClose(UPSTREAM)
    assert book.closes(UPSTREAM).returns() == Finished()


@pytest.mark.parametrize("key", [KEY, b"pid." + b"k" * 32, b"pid." + b"k" * 256])
def test_a_session_of_this_process(key: bytes) -> None:
    """The key leads to the very server, whatever the listener fixes; long keys are protocol 3.2's."""
    book = opened().client(request(key)).expect(Recall(key), LOCATION)
    carried(book, request(key))


def test_a_session_of_another_replica() -> None:
    """Where the listener fixes the database any replica can carry it."""
    carried(opened().client(request()).expect(Recall(KEY), None).expect(Locate("orders"), LOCATION), request())


def test_the_server_name_fixes_the_database_too() -> None:
    """Inside TLS, as newer libpq sends it."""
    book = opened(door(database=None, sni_databases={"orders.db": "orders"}))
    book.client(SSL).sends(CLIENT, b"S").expect(StartTls(CLIENT, ALPN), FACTS)
    carried(book.client(request()).expect(Recall(KEY), None).expect(Locate("orders"), LOCATION), request())


def test_a_key_that_nobody_knows_where_nothing_is_fixed() -> None:
    """It ends in silence, as a wrong key does at the server."""
    book = opened(door(database=None, by_login_name=True)).client(request()).expect(Recall(KEY), None)
    assert book.returns() == Finished()


def test_plaintext_is_accepted_where_tls_is_required() -> None:
    """libpq before 17 cancels in plaintext, whatever the session runs on."""
    opened(door(tls_required=True, workload=None)).client(request()).expect(Recall(KEY), LOCATION)


@pytest.mark.parametrize("at", [door(), door(workload=None)])
def test_a_failure_is_not_answered(at: Door) -> None:
    """The script ends in the refusal, for the audit line; the client gets nothing."""
    book = opened(at).client(request()).expect(Recall(KEY), LOCATION)
    book.fail(Refused(Reason.UPSTREAM_UNREACHABLE, "no route"))
    assert book.sent(CLIENT) == b""
    book.raises(Refused)


def test_upstream_that_closes_early() -> None:
    """The same for a server that goes away during the TLS dance."""
    book = opened().client(request()).expect(Recall(KEY), LOCATION).expect(Connect()).sends(UPSTREAM, SSL)
    book.closes(UPSTREAM).raises(PeerClosed)


@pytest.mark.parametrize("key", [b"", b"pid.", b"pid.abc", b"pid." + b"k" * 257])
def test_keys_that_cannot_be(key: bytes) -> None:
    """Shorter than 3.0's or longer than 3.2's."""
    book = opened().client(request(key))
    assert native(book.sent(CLIENT))["C"] == "08P01"
    assert book.raises(Refused).reason is Reason.CLIENT_PROTOCOL
