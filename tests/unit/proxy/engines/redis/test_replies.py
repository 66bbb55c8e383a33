"""Where answers end on a shared connection."""

from __future__ import annotations

import pytest

from proxy.engines.redis.replies import MOST, PUSHED_LIMIT, RedisAnswers
from proxy.errors import PeerViolation

VALUE = b"$5\r\nhe\r\nl\r\n"
ANSWERS = {
    "a status": b"+OK\r\n",
    "an error": b"-ERR unknown command '>1'\r\n",
    "a number": b":-12\r\n",
    "a value that holds answers": b"$14\r\n+OK\r\n$-1\r\n>1\r\n\r\n",
    "an empty value": b"$0\r\n\r\n",
    "no value": b"$-1\r\n",
    "a long value": b"$200\r\n" + b"v" * 200 + b"\r\n",
    "no list": b"*-1\r\n",
    "an empty list": b"*0\r\n",
    "a list": b"*3\r\n:1\r\n*1\r\n$200\r\n" + b"v" * 200 + b"\r\n+OK\r\n",
    "a list of texts whose ends look like answers": b"*3\r\n+a$3\r\n+bc\r\n$2\r\n:1\r\n",
    "a null": b"_\r\n",
    "a double": b",1.5\r\n",
    "a boolean": b"#t\r\n",
    "a big number": b"(123456789012345678901234567890\r\n",
    "a map": b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
    "a set": b"~2\r\n+a\r\n+b\r\n",
    "a verbatim text": b"=7\r\ntxt:a\r\n\r\n",
    "a long error": b"!5\r\nERR x\r\n",
    "one with an attribute": b"|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n",
}
every = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)


@every
def test_each_kind_ends_where_it_ends(answer: bytes) -> None:
    """Alone, among others, and for each number of them asked for at once."""
    for count in (1, 2, 3, 20, MOST, MOST + 1, 200):
        data = VALUE + answer * count + VALUE
        assert RedisAnswers(pushes=True).advance(data, len(VALUE), count) == (len(data) - len(VALUE), 0)


@every
def test_each_kind_may_be_cut_anywhere(answer: bytes) -> None:
    """The rest is counted with the next data, which may hold more."""
    for cut in range(len(answer)):
        answers = RedisAnswers(pushes=True)
        assert answers.advance(VALUE + answer[:cut], 0, 2) == (len(VALUE) + cut, 1)
        assert answers.advance(answer[cut:] + VALUE, 0, 1) == (len(answer) - cut, 0)
        assert answers.advance(VALUE, 0, 1) == (len(VALUE), 0)


def test_500_mb_stream_by() -> None:
    """Nothing is kept: a chunk is passed to its end, whatever it holds."""
    answers = RedisAnswers(pushes=True)
    assert answers.advance(b"$500000000\r\n", 0, 1) == (12, 1)
    chunk = b"+OK\r\n" * 20_000
    for _ in range(5_000):
        assert answers.advance(chunk, 0, 1) == (len(chunk), 1)
    assert answers.advance(b"\r\n+OK\r\n", 0, 1) == (2, 0)


PUSH = b">2\r\n+message\r\n*1\r\n$6\r\n+OK\r\n>\r\n"


@pytest.mark.parametrize("before", [b"", b"+OK\r\n", b"*1\r\n+OK\r\n", VALUE * 3])
def test_a_message_between_answers_is_skipped(before: bytes) -> None:
    """As RESP3 has it; whole, and cut anywhere."""
    end = len(before)
    for cut in range(1, len(PUSH) + 1):
        answers = RedisAnswers(pushes=True)
        first = before + PUSH[:cut]
        assert answers.advance(first, 0, 5)[0] == end
        assert answers.skip(first, end) == len(first)
        rest = PUSH[cut:] + VALUE
        assert answers.advance(rest, 0, 1) == ((0, 1) if cut < len(PUSH) else (len(VALUE), 0))
        if cut < len(PUSH):
            assert answers.skip(rest, 0) == len(rest) - len(VALUE)
            assert answers.advance(rest, len(rest) - len(VALUE), 1) == (len(rest), 0)


@pytest.mark.parametrize("push", [b">", PUSH])
@pytest.mark.parametrize("before", [b"", b"+OK\r\n", b"*1\r\n+OK\r\n"])
def test_resp2_has_no_such_messages(push: bytes, before: bytes) -> None:
    """Known by its first byte; inside a value it is one of its bytes."""
    answers = RedisAnswers(pushes=False)
    assert answers.advance(before + push, 0, 2)[0] == len(before)
    with pytest.raises(PeerViolation, match="has subscribed to none"):
        answers.skip(before + push, len(before))
    assert RedisAnswers(pushes=False).advance(b"$1\r\n>\r\n", 0, 1) == (7, 0)


@pytest.mark.parametrize("begun", [b"*2\r\n+a\r\n", b"*1\r\n", b"%1\r\n+a\r\n", b"|1\r\n+a\r\n:1\r\n"])
def test_a_message_inside_an_answer_is_a_violation(begun: bytes) -> None:
    answers = RedisAnswers(pushes=True)
    with pytest.raises(PeerViolation, match="inside a reply"):
        answers.advance(begun + PUSH, 0, 1)
    answers = RedisAnswers(pushes=True)
    assert answers.advance(begun, 0, 1) == (len(begun), 1)
    with pytest.raises(PeerViolation, match="inside a reply"):
        answers.advance(PUSH, 0, 1)


def test_a_message_inside_another_is_a_violation() -> None:
    with pytest.raises(PeerViolation, match="inside a reply"):
        RedisAnswers(pushes=True).skip(b">1\r\n" + PUSH, 0)


@pytest.mark.parametrize("pushes", [True, False])
def test_where_no_message_is_nothing_is_skipped(pushes: bool) -> None:
    """Nor inside an answer whose bytes look like one."""
    answers = RedisAnswers(pushes=pushes)
    assert answers.skip(VALUE, 0) == 0
    assert answers.advance(b"$99\r\n", 0, 1) == (5, 1)
    assert answers.skip(PUSH, 0) == 0
    assert answers.advance(PUSH, 0, 1) == (len(PUSH), 1)


def test_messages_between_two_answers_are_bounded() -> None:
    """Many small ones, or a large one as soon as it is announced; an answer between them begins anew."""
    answers = RedisAnswers(pushes=True)
    some = PUSH * (PUSHED_LIMIT // len(PUSH))
    for answer in (VALUE, b"*1\r\n$200\r\n" + b"v" * 200 + b"\r\n"):
        assert answers.skip(some, 0) == len(some)
        assert answers.advance(answer, 0, 1) == (len(answer), 0)
    assert answers.skip(some, 0) == len(some)
    with pytest.raises(PeerViolation, match="answer nothing"):
        answers.skip(PUSH, 0)
    for announced in (b">1\r\n$%d\r\n" % PUSHED_LIMIT, b">%d\r\n" % PUSHED_LIMIT, b">1\r\n+" + b"x" * PUSHED_LIMIT):
        with pytest.raises(PeerViolation, match="answer nothing"):
            RedisAnswers(pushes=True).skip(announced, 0)


@pytest.mark.parametrize(
    "noise", [b"hello\r\n", b"\0", b"\r\n", b"$x\r\n", b"$?\r\n", b"*1e3\r\n", b"+a\n", b"*2\r\nx"]
)
def test_what_begins_no_answer_is_a_violation(noise: bytes) -> None:
    """Alone and behind others."""
    for before in (b"", b"+OK\r\n"):
        with pytest.raises(PeerViolation):
            RedisAnswers(pushes=True).advance(before + noise, 0, 3)


@pytest.mark.parametrize("kind", [b"+", b"-ERR ", b"("])
def test_a_text_of_any_length_streams_by(kind: bytes) -> None:
    """A script answers with one if its client likes, and that must not be the end of what all others have asked."""
    answers = RedisAnswers(pushes=True)
    chunk = b"1" * 65_536
    assert answers.advance(kind, 0, 2) == (len(kind), 2)
    for _ in range(1_000):
        assert answers.advance(chunk, 0, 2) == (len(chunk), 2)
    assert answers.advance(b"\r", 0, 2) == (1, 2)
    assert answers.advance(b"\n" + VALUE, 0, 2) == (1 + len(VALUE), 0)


def test_a_length_of_any_length_does_not() -> None:
    answers = RedisAnswers(pushes=True)
    answers.advance(b"$" + b"1" * 60_000, 0, 1)
    with pytest.raises(PeerViolation, match="65536 bytes"):
        answers.advance(b"1" * 10_000, 0, 1)
