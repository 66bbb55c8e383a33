"""Replies of a server, and what is no reply."""

from __future__ import annotations

import pytest

from proxy.engines.redis.wire import Frame
from proxy.errors import PeerViolation


@pytest.mark.parametrize("first", [b"\xff", b"\x16", b"h", b"\r", b"\0"])
def test_garbage_is_known_by_its_first_byte(first: bytes) -> None:
    """It need not hold a line's end, and the login must not wait for one."""
    with pytest.raises(PeerViolation, match="begins no reply"):
        Frame().feed(first, 0)


@pytest.mark.parametrize("first", [bytes((kind,)) for kind in b"+-:_,#($=!*~>%|"])
def test_a_reply_may_come_byte_by_byte(first: bytes) -> None:
    frame = Frame()
    assert frame.feed(first, 0) == 1
    assert not frame.complete
    assert frame.kind == first


@pytest.mark.parametrize("begun", [b"*1\r\n", b"*2\r\n:1\r\n", b"%1\r\n+a\r\n", b">1\r\n", b"|1\r\n+a\r\n:1\r\n"])
def test_a_push_comes_between_replies_and_never_inside_one(begun: bytes) -> None:
    frame = Frame()
    assert frame.feed(b">1\r\n:1\r\n", 0) == 8
    assert frame.complete
    with pytest.raises(PeerViolation, match="inside a reply"):
        Frame().feed(begun + b">1\r\n", 0)
