"""The Cassandra guard, whatever is said and however it is cut; and its codec."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.cassandra import proof, results, statements, wire
from proxy.engines.cassandra.reading import Short
from proxy.engines.cassandra.refusals import encode
from proxy.engines.cassandra.results import WHOLE_LIMIT
from proxy.engines.cassandra.statements import MARK
from proxy.errors import PeerViolation, Refused, Side
from proxy.inbox import Cursor
from tests.support import cql
from tests.support.cql_session import HERE, CqlSession, frames
from tollbridge.reasons import LOGIN_REASONS, Reason

SECRET = b"\x0a\x0b\x0c\x0d"
"""An address of the cluster. No client may hear of it."""

words = st.binary(max_size=12)
streams = st.integers(-1, 32767)
SIMPLE = (cql.TEXT, cql.INT, cql.UUID, cql.INET, b"\0\0" + cql.text("org.x.Custom"))


def nested(inner: Iterable[bytes]) -> list[bytes]:
    """Lists, sets, maps, tuples and user-defined types of these."""
    some = list(inner)
    fields = b"".join(cql.text("f") + one for one in some)
    found = [kind + one for one in some for kind in (b"\0\x20", b"\0\x22", b"\0\x21" + cql.TEXT)]
    found.append(b"\0\x31" + len(some).to_bytes(2, "big") + b"".join(some))
    found.append(b"\0\x30" + cql.text("ks") + cql.text("t") + len(some).to_bytes(2, "big") + fields)
    return found


types = st.sampled_from([*SIMPLE, *nested(SIMPLE), *nested(nested(SIMPLE[:2])), *nested([])])
columns = st.lists(st.tuples(st.text("abc_", min_size=1, max_size=8), types), min_size=1, max_size=5)
pagings = st.none() | st.binary(max_size=300)
cells = st.none() | st.binary(max_size=40) | st.just(SECRET)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame of a server's, and what the client is to hear of it."""
    stream, flags = draw(streams), draw(st.sampled_from([0, 0, 0, 0x02, 0x04, 0x08, 0x0A]))
    extra = draw(st.binary(min_size=16, max_size=16)) if flags & 0x02 else b""
    extra += b"\0\1" + cql.text(draw(words)) if flags & 0x08 else b""
    extra += b"\0\1" + cql.text(draw(words)) + cql.long(draw(words)) if flags & 0x04 else b""

    def framed(opcode: int, body: bytes) -> bytes:
        return cql.answer(opcode, extra + body, stream=stream, flags=flags)

    kind = draw(
        st.sampled_from(["opaque", "void", "rows", "bare", "peers", "local", "prepared", "system", "news", "ddl"])
    )
    paging, one_table = draw(pagings), draw(st.booleans())
    cols = draw(columns)
    grid = draw(st.lists(st.lists(cells, min_size=len(cols), max_size=len(cols)), max_size=4))
    match kind:
        case "opaque":
            same = framed(draw(st.sampled_from([cql.ERROR, cql.SUPPORTED, cql.READY])), draw(st.binary(max_size=60)))
        case "void":
            same = framed(cql.RESULT, b"\0\0\0\1")
        case "bare":
            same = framed(cql.RESULT, b"\0\0\0\2\0\0\0\5" + draw(st.binary(max_size=80)))
        case "rows":
            meta = cql.metadata("orders", cols, keyspace="shop", paging=paging, one_table=one_table)
            same = framed(cql.RESULT, cql.rows(meta, *grid))
        case "peers":
            meta = cql.metadata(draw(st.sampled_from(["peers", "peers_v2"])), cols, paging=paging, one_table=one_table)
            return framed(cql.RESULT, cql.rows(meta, *grid)), framed(cql.RESULT, cql.rows(meta))
        case "local":
            meta = cql.metadata("local", cols, paging=paging, one_table=one_table)
            ours = [
                [HERE.address if kind == cql.INET else cell for (_, kind), cell in zip(cols, row, strict=True)]
                for row in grid
            ]
            return framed(cql.RESULT, cql.rows(meta, *grid)), framed(cql.RESULT, cql.rows(meta, *ours))
        case "prepared":
            meta = cql.metadata("orders", cols, keyspace="shop")
            same = framed(cql.RESULT, cql.prepared(meta, markers=cols))
        case "system":
            meta = cql.metadata(draw(st.sampled_from(["peers", "peers_v2", "local"])), cols, one_table=one_table)
            name = draw(st.binary(max_size=40))
            told = cql.prepared(meta, markers=cols, id_=MARK + name)
            return framed(cql.RESULT, cql.prepared(meta, markers=cols, id_=name)), framed(cql.RESULT, told)
        case "news":
            return framed(cql.EVENT, cql.text("STATUS_CHANGE") + cql.text("UP") + b"\x04" + SECRET + bytes(4)), b""
        case _:
            same = framed(cql.EVENT, cql.text("SCHEMA_CHANGE") + cql.text("CREATED"))
    return same, same


def cutting(data: st.DataObject) -> Callable[[bytes], Iterable[bytes]]:
    """Pieces of any size."""

    def cut(said: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=12)) | {0, len(said)})
        return [said[a:b] for a, b in itertools.pairwise(cuts)]

    return cut


@given(st.lists(answers(), max_size=8), st.data())
def test_any_answers_in_any_pieces(said: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """The client hears all that is none of the proxy's business, unchanged, in order; and of the rest what it is to."""
    session = CqlSession(cutting(data))
    session.say(b"".join(frame for frame, _ in said))
    assert session.refusal is None
    assert session.heard == b"".join(heard for _, heard in said)
    assert session.guard.at_rest


@given(st.lists(answers(), max_size=3), st.binary(min_size=1, max_size=400), st.data())
def test_any_bytes_from_a_server_end_the_session_or_stay_frames(
    said: list[tuple[bytes, bytes]], noise: bytes, data: st.DataObject
) -> None:
    """No other exception, nothing kept without bound, and never a frame about the cluster as it was."""
    session = CqlSession(cutting(data))
    before = b"".join(heard for _, heard in said)
    session.say(b"".join(frame for frame, _ in said) + noise)
    assert session.heard.startswith(before)
    assert len(session.guard._kept) <= WHOLE_LIMIT


@given(answers(), st.data())
def test_an_answer_with_a_few_bytes_changed(said: tuple[bytes, bytes], data: st.DataObject) -> None:
    """It is refused, or read as what it then is; what is behind it is not lost unless it swallowed that."""
    frame = said[0]
    at = data.draw(st.integers(9, len(frame)))
    changed = frame[:at] + data.draw(st.binary(max_size=4)) + frame[at + 4 :]
    changed = changed[:5] + (len(changed) - 9).to_bytes(4, "big") + changed[9:]
    after = cql.answer(cql.RESULT, b"\0\0\0\1", stream=1)
    session = CqlSession(cutting(data))
    session.say(changed + after)
    if session.refusal is None:
        assert session.heard.endswith(after)
        assert frames(session.heard)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame of a client's, and what the server is to hear of it."""
    stream = draw(streams)
    if draw(st.booleans()):
        same = cql.frame(draw(st.sampled_from([5, 7, 9, 10, 11, 13])), draw(st.binary(max_size=100)), stream=stream)
        return same, same
    name, options, payload = draw(words), draw(st.integers(0, 255)), draw(st.none() | st.binary(max_size=300))
    heard = cql.execute(name, options=options & ~2, payload=payload, stream=stream)
    return cql.execute(MARK + name, options=options, payload=payload, stream=stream), heard


@given(st.lists(requests(), max_size=8), st.data())
def test_any_requests_in_any_pieces(asked: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """They pass as they are, but for marked statements; and one that is none ends the session before a server could
    act on it."""
    session = CqlSession(cutting(data))
    session.ask(b"".join(said for said, _ in asked))
    heard = b"".join(heard for _, heard in asked)
    assert session.upstream == heard
    session.ask(cql.frame(cql.AUTH_RESPONSE, cql.long(b"\0other\0password")))
    assert session.refusal is not None
    assert session.upstream == heard


@given(st.binary(max_size=300), st.data())
def test_any_bytes_from_a_client(noise: bytes, data: st.DataObject) -> None:
    session = CqlSession(cutting(data))
    session.ask(noise)
    assert noise.startswith(session.upstream)


@given(st.lists(st.tuples(words, words), max_size=8))
def test_startup_comes_back(options: list[tuple[bytes, bytes]]) -> None:
    assert wire.parse_startup(wire.startup(options)) == tuple(options)


@given(st.integers(0, 2**32 - 1), st.binary(max_size=300))
def test_errors_come_back(code: int, text: bytes) -> None:
    assert wire.parse_error(Cursor(wire.error(code, text), Side.UPSTREAM)) == (code, text)


@given(st.none() | st.binary(max_size=100))
def test_values_come_back(value: bytes | None) -> None:
    cursor = Cursor(wire.long_bytes(value), Side.UPSTREAM)
    assert wire.take_bytes(cursor) == value
    cursor.finish()


@pytest.mark.parametrize(
    "parse",
    [
        wire.parse_startup,
        proof.parse_nonce,
        lambda data: results.what(data, 0),
        lambda data: results.what(data, 0x0E),
        lambda data: results.without_rows(b"\0\0\0\2" + data, 0),
        lambda data: results.as_local(b"\0\0\0\2" + data, 0, HERE),
        lambda data: results.marked(b"\0\0\0\4" + data + results.SYSTEM, 0, 4),
        lambda data: statements.remarked(b"\0\0\x25\0" + data, 0, ()),
        lambda data: statements.parse_execute(b"\0\x20" + MARK + data, 4),
        lambda data: results.one_text(Cursor(data, Side.UPSTREAM)),
    ],
)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(PeerViolation, Short):
        parse(data)


@given(st.sampled_from(LOGIN_REASONS), st.text(max_size=3000), st.text(max_size=80), st.integers(-1, 32767))
def test_any_refusal_is_one_frame_of_one_line(reason: Reason, message: str, decision: str, stream: int) -> None:
    said = encode(Refused(reason, message, decision_id=decision), 4, stream)
    _, text = cql.read_error(said)
    assert len(text.encode()) <= 2_000
    assert "\n" not in text
    assert text.startswith("tollbridge: ")
