"""Orders of names: when they are kept in mind, how many, and what does not fit them."""

from __future__ import annotations

import pytest

from proxy.http.layouts import LAID_OUT_BYTES, LAID_OUT_LINES, LAYOUTS_LIMIT, SIGHTINGS, Layouts
from proxy.http.names import CONNECTION, CONTENT_LENGTH, DROP, HOST, KEEP

NAMES = [b"Host", b"X-One", b"X-Two", b"Date", b"X-Three", b"Content-Length", b"Connection"]
MEANINGS = [HOST, KEEP, KEEP, DROP, KEEP, CONTENT_LENGTH, CONNECTION]
CLOSE = b"Connection: close"
HEAD = (
    b"GET / HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nX-Two:\r\nDate: x\r\nX-Three: a b \r\nContent-Length: 5\r\n%b\r\n\r\n"
    % CLOSE
)


def layouts() -> Layouts:
    """Nothing seen."""
    return Layouts((HOST, CONTENT_LENGTH))


def saw(known: Layouts, names: list[bytes], times: int = SIGHTINGS) -> None:
    """All of them lines that go on."""
    for _ in range(times):
        known.saw(names, [KEEP] * len(names), b"")


def test_an_order_is_laid_out_when_it_was_seen_often_enough() -> None:
    """And not before: an expression costs more than it saves those who never come back. And once."""
    known = layouts()
    saw(known, [b"A"], SIGHTINGS - 1)
    assert known.known == []
    saw(known, [b"A"], 1)
    assert len(known.known) == 1
    saw(known, [b"A"], 2 * SIGHTINGS)
    assert len(known.known) == 1


def test_what_a_head_says_is_picked_out() -> None:
    """The first line, what is wanted without blanks around, and the lines that go on as they are, in runs."""
    known = layouts()
    for _ in range(SIGHTINGS):
        known.saw(NAMES, MEANINGS, CLOSE)
    (layout,) = known.known
    match = layout.match(HEAD + b"GET / HTTP/1.1\r\n")
    assert match is not None
    first, *found = match.group(*layout.fields)
    assert (first, found) == (b"GET / HTTP/1.1", [b"h", b"5", b"X-One: 1\r\nX-Two:\r\n", b"X-Three: a b \r\n"])
    assert match.end() == len(HEAD)
    assert not layout.stays


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"X-One: 1", b"X-One: \x00"),
        (b"X-One: 1", b"X-One: \x7f"),
        (b"X-One: 1", b"X-One: \t"),
        (b"X-One: 1", b"X-One: \xc3\xa4"),
        (b"X-One: 1", b"X-One: 1\r"),
        (b"X-One: 1", b"X-One: 1\nX: 2"),
        (b"X-One: 1", b"X-One: 1\r\n 2"),
        (b"X-One: 1", b"X-One: 1\r\nX: 2"),
        (b"X-One: 1", b"X-One : 1"),
        (b"X-One: 1", b"x-one: 1"),
        (b"X-One: 1\r\n", b""),
        (b"Host: h", b"Host: "),
        (b"Host: h", b"Host: h "),
        (b"Host: h", b"Host:  h"),
        (b"Date: x", b"Date: x\nHost: i"),
        (b"Content-Length: 5", b"Content-Length: +5"),
        (b"Content-Length: 5", b"Content-Length: 1234567890123456"),
        (b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5"),
        (CLOSE, b"Connection: keep-alive"),
        (b"\r\n\r\n", b"\r\n"),
        (b"\r\n\r\n", b"\n\n"),
    ],
)
def test_what_does_not_fit(old: bytes, new: bytes) -> None:
    """It is read line by line, and most of it is refused there."""
    known = layouts()
    for _ in range(SIGHTINGS):
        known.saw(NAMES, MEANINGS, CLOSE)
    (layout,) = known.known
    assert layout.match(HEAD) is not None
    assert layout.match(HEAD.replace(old, new)) is None


def test_names_stand_for_themselves() -> None:
    """Some characters of names mean something else in an expression."""
    known = layouts()
    saw(known, [b"a.b*|c+^$"])
    (layout,) = known.known
    assert layout.match(b"GET / HTTP/1.1\r\na.b*|c+^$: 1\r\n\r\n") is not None
    assert layout.match(b"GET / HTTP/1.1\r\naxb*|c+^$: 1\r\n\r\n") is None
    assert layout.match(b"GET / HTTP/1.1\r\na.b: 1\r\n\r\n") is None


def test_few_are_kept_those_learnt_last() -> None:
    """Clients invent names. One that was forgotten can be learnt again."""
    known = layouts()
    for number in range(LAYOUTS_LIMIT + 1):
        saw(known, [b"A%d" % number])
    assert [layout.key for layout in known.known] == [(b"", b"A%d" % number) for number in range(LAYOUTS_LIMIT, 0, -1)]
    saw(known, [b"A0"])
    assert known.known[0].key == (b"", b"A0")


def test_long_heads_are_not_laid_out() -> None:
    """Each line of an expression has its price."""
    known = layouts()
    saw(known, [b"A"] * (LAID_OUT_LINES + 1))
    saw(known, [b"A" * (LAID_OUT_BYTES + 1)])
    assert known.known == []
    saw(known, [b"A"] * LAID_OUT_LINES)
    assert len(known.known) == 1


def test_orders_that_never_come_back_are_forgotten() -> None:
    """What is counted has an end too."""
    known = layouts()
    for number in range(1000):
        saw(known, [b"A%d" % number], 1)
    assert known.known == []
    assert len(known._sightings) <= 256
