"""Requests are read alike whether they are there whole or come in pieces, and anything else is refused."""

from __future__ import annotations

import itertools
from typing import Any

import bson
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.engines.mongodb import bson as ours
from proxy.engines.mongodb.scanner import LongMessage, Request, judge
from proxy.errors import PeerViolation
from tests.support import mongo
from tests.support.mongo_session import MongoSession

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.binary(max_size=20) | st.just(bson.ObjectId(b"1" * 12)) | st.just(bson.Timestamp(1, 2))
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
databases = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, Request]:
    """A message as drivers write it, and what there is to know about it."""
    command, database = draw(names.filter(lambda name: name != "$db")), draw(databases)
    more = draw(st.dictionaries(names, values, max_size=4))
    body: dict[str, Any] = {command: draw(values)}
    body |= {name: value for name, value in more.items() if name not in (command, "$db")}
    body["$db"] = database
    flags = draw(st.sampled_from([0, 1, 2, 3, 1 << 16]))
    rows = draw(
        st.lists(st.tuples(names, st.lists(st.dictionaries(names, scalars, max_size=2), max_size=3)), max_size=2)
    )
    return mongo.op_msg(body, 7, 0, flags, *rows), Request(command, database, not flags & 2)


def in_pieces(message: bytes, cuts: set[int]) -> Request | str | None:
    """What the streaming reader makes of it, or its complaint."""
    long = LongMessage(int.from_bytes(message[:4], "little"))
    try:
        for start, stop in itertools.pairwise(sorted(cuts | {0, len(message)})):
            long.feed(message[start:stop])
    except PeerViolation:
        return "refused"
    return long.request


def whole(message: bytes) -> Request | str:
    """The same, of the reader of whole messages."""
    try:
        return judge(message, 0, len(message))
    except PeerViolation:
        return "refused"


@given(messages(), st.data())
def test_both_readers_read_what_drivers_write(case: tuple[bytes, Request], data: st.DataObject) -> None:
    message, expected = case
    assert whole(message) == expected
    assert in_pieces(message, data.draw(st.sets(st.integers(0, len(message)), max_size=12))) == expected


@given(messages(), st.data())
def test_both_readers_judge_damage_alike(case: tuple[bytes, Request], data: st.DataObject) -> None:
    """A byte or two replaced anywhere behind the header."""
    message = bytearray(case[0])
    for _ in range(data.draw(st.integers(1, 2))):
        message[data.draw(st.integers(16, len(message) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(message)
    assert in_pieces(damaged, data.draw(st.sets(st.integers(0, len(damaged)), max_size=12))) == whole(damaged)


@given(st.binary(min_size=5, max_size=200))
@example(b"\5\0\0\0\0")
@example(b"\x0c\0\0\0\x10a\0\1\0\0\0\0")
def test_documents_are_read_as_pymongo_reads_them_or_refused(data: bytes) -> None:
    """Never another exception, never a value from outside the document."""
    try:
        found = ours.read(data)
    except ours.BsonError:
        return
    assert all(element.value in data for element in found.values())


@given(st.dictionaries(names, values, max_size=5))
def test_what_is_read_and_written_again_is_the_same(document: dict[str, Any]) -> None:
    data = bson.encode(document)
    assert ours.write(ours.read(data).values()) == data


@given(st.lists(messages(), min_size=1, max_size=4), st.data())
def test_a_session_passes_the_same_bytes_however_they_are_cut(
    cases: list[tuple[bytes, Request]], data: st.DataObject
) -> None:
    """And asks about each database once."""
    stream = b"".join(message for message, _ in cases)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)) | {0, len(stream)})
    session = MongoSession(allowed=[request.database for _, request in cases])
    session.says(stream, lambda said: [said[a:b] for a, b in itertools.pairwise(cuts)])
    mine = {"hello", "ismaster", "saslstart", "saslcontinue", "authenticate", "logout", "getnonce", "copydbsaslstart"}
    if not any(request.command.lower() in mine for _, request in cases):
        assert session.server == stream
        assert len(session.asked) == len(set(session.asked))


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=8))
def test_anything_at_all_is_passed_answered_or_refused(noise: list[tuple[bool, bytes]]) -> None:
    """From either side, in any order."""
    session = MongoSession()
    for from_client, data in noise:
        session.says(data) if from_client else session.hears(data)
