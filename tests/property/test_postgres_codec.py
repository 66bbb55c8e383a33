"""PostgreSQL's codec: what is written is read back the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.postgres import wire
from proxy.engines.postgres.notes import option_names
from proxy.errors import PeerViolation
from proxy.script import CLIENT, UPSTREAM
from tests.support.playbook import Playbook

cstrings = st.binary(max_size=40).map(lambda value: value.replace(b"\0", b""))
names = cstrings.filter(bool)
versions = st.integers(0x30000, 0x3FFFF)
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)


@given(st.builds(wire.Startup, version=versions, parameters=st.lists(st.tuples(names, cstrings)).map(tuple)))
def test_startup(packet: wire.Startup) -> None:
    """Order, duplicates and values."""
    assert Playbook(wire.read_startup()).client(packet.encoded()).returns() == packet


@given(st.binary(min_size=8, max_size=260))
def test_cancel_request(key: bytes) -> None:
    """Process id and key."""
    request = wire.CancelRequest(key)
    assert Playbook(wire.read_startup()).client(request.encoded()).returns() == request


@given(st.sampled_from(sorted(wire.GREETING_PHASE)), st.binary(max_size=300))
def test_message(kind: bytes, body: bytes) -> None:
    """Kind and body, unless the body is over the kind's limit."""
    message = wire.Message(kind, body)
    book = Playbook(wire.read_message(UPSTREAM, wire.GREETING_PHASE)).upstream(message.encoded())
    if len(body) + 4 > wire.GREETING_PHASE[kind]:
        book.raises(PeerViolation)
    else:
        assert book.returns() == message


@given(st.dictionaries(st.sampled_from(list("SVCMDHPWRF")), texts))
def test_error_response(fields: dict[str, str]) -> None:
    """Fields by their letter."""
    assert wire.error_fields(wire.error_response(fields.items())[5:], UPSTREAM) == fields


@given(st.builds(wire.Negotiation, versions, st.lists(names, max_size=5).map(tuple)))
def test_negotiation(negotiation: wire.Negotiation) -> None:
    """Version and options."""
    assert wire.parse_negotiation(negotiation.encoded()[5:], UPSTREAM) == negotiation


@given(st.binary(max_size=200))
def test_parsers_raise_peer_violation_and_nothing_else(body: bytes) -> None:
    """Whatever the bytes."""
    for parse in (
        wire.parse_startup,
        lambda data: wire.error_fields(data, CLIENT),
        lambda data: wire.parse_negotiation(data, UPSTREAM),
    ):
        try:
            parse(body)
        except PeerViolation:
            continue


@given(st.binary(max_size=200))
def test_options_are_read_without_an_error(options: bytes) -> None:
    """An audit note never ends a login."""
    assert all(isinstance(name, bytes) for name in option_names(options))
