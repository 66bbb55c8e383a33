"""Redis clients on a shared connection: nothing said is lost, miscounted or forwarded unasked, wherever it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engines.redis.refusals import NO_SUCH_LOGIN, refused_command
from proxy.engines.redis.replies import RedisAnswers
from proxy.engines.redis.shareable import SHAREABLE
from proxy.engines.redis.sharing import RedisSharer
from proxy.engines.redis.wire import COMMAND_LIMIT, encode_command
from proxy.errors import PeerViolation, Side
from proxy.multiplex import Forward, Leave, Pin, Say, Step

GREETING = b"%1\r\n+proto\r\n:3\r\n"
INSIDE = encode_command(b"GET", b"a")

values = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"\r\n", INSIDE, b"\r\n" + INSIDE, b"\r\n*1\r\n$3\r\nGET", b"*0\r\n", b"$3", b"\r\n$3\r\n"]),
    st.integers(190, 2100).map(lambda size: b"v" * size),
)
names = st.sampled_from(
    [b"GET", b"set", b"MGet", b"ZREMRANGEBYLEX", b"georadiusbymember_ro", b"type", b"PING", b"hset"]
)
shareable = st.builds(lambda name, rest: [name, *rest], names, st.lists(values, max_size=9))
long_ones = st.builds(
    lambda name, size: [name, b"k", b"v" * size], names, st.sampled_from([60_000, 65_500, COMMAND_LIMIT, 90_000])
)
ANSWERED = {
    (b"auth", b"app", b"x"): b"+OK\r\n",
    (b"AUTH", b"x"): b"+OK\r\n",
    (b"AUTH", b"other", b"x"): NO_SUCH_LOGIN,
    (b"HELLO",): GREETING,
    (b"hello", b"3", b"AUTH", b"app", b"x"): GREETING,
    (b"CLIENT", b"SETNAME", b"me"): b"+OK\r\n",
    (b"client", b"setinfo", b"LIB-NAME", b"redis-py"): b"+OK\r\n",
    (b"Monitor",): refused_command(b"monitor"),
    (b"WAIT", b"1", b"0"): refused_command(b"wait"),
    (): b"",
}
answered = st.sampled_from(sorted(ANSWERED)).map(list)
pinning = st.sampled_from(
    [[b"MULTI"], [b"blpop", b"a", b"0"], [b"HELLO", b"2"], [b"CLIENT", b"ID"], [b"x" * 70], [b""]]
)
inline = st.builds(
    lambda name, rest: [name, *rest],
    st.sampled_from([b"GET", b"ping", b"auth", b"SELECT", b"MULTI", b"x", b"quit"]),
    st.lists(st.sampled_from([b"app", b"x", b"0", b"", b"a b", b"*1", b"'\"\\"]), max_size=3),
)
commands = st.lists(st.one_of(shareable, shareable, shareable, answered, long_ones, pinning), min_size=1, max_size=8)


def new_sharer() -> RedisSharer:
    """A client in RESP3 whose user is the listener's."""
    return RedisSharer(version=b"3", greeting=GREETING, names=frozenset({b"app"}), default=True)


def pieces(draw: st.DataObject, data: bytes) -> list[bytes]:
    """The data, cut anywhere."""
    at = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=6)) | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


class Client:
    """Asks a sharer as the network does, and writes down what comes of it."""

    def __init__(self) -> None:
        self.sharer = new_sharer()
        self.story: list[tuple[str, bytes]] = []
        """Runs of what was forwarded, what was answered, what is left for a connection of its own."""
        self.answers = 0
        self.done = False

    def say(self, data: bytes) -> None:
        """Bytes arrive."""
        if self.done:
            self.tell("own", data)
        elif not self.sharer.kept and (count := self.sharer.whole(data)):
            self.carry_out(Forward(data, count))
        else:
            for step in self.sharer.take(data):
                assert not self.done
                self.carry_out(step)

    def carry_out(self, step: Step) -> None:
        """One step."""
        match step:
            case Forward(data, count):
                assert count > 0
                self.answers += count
                self.tell("forward", data)
            case Say(data):
                self.story.append(("say", data))
            case Pin(rest):
                self.done = True
                self.tell("own", rest)
            case Leave():
                self.done = True

    def tell(self, kind: str, data: bytes) -> None:
        """What follows each other is one."""
        if self.story and self.story[-1][0] == kind:
            data = self.story.pop()[1] + data
        if data:
            self.story.append((kind, data))


def expected(said: list[list[bytes]]) -> Client:
    """What must come of it, by the words alone."""
    client = Client()
    for words in said:
        data = encode_command(*words)
        if client.done:
            client.tell("own", data)
        elif words and words[0].lower() in SHAREABLE and len(data) <= COMMAND_LIMIT:
            client.carry_out(Forward(data, 1))
        elif tuple(words) in ANSWERED:
            if answer := ANSWERED[tuple(words)]:
                client.carry_out(Say(answer))
        else:
            client.carry_out(Pin(data, ""))
    return client


@given(said=commands, draw=st.data())
def test_nothing_is_lost_and_every_command_counted_wherever_it_is_cut(
    said: list[list[bytes]], draw: st.DataObject
) -> None:
    """Forwarded in order with its exact number, answered in its turn, or left for a connection of its own."""
    client = Client()
    for piece in pieces(draw, b"".join(encode_command(*words) for words in said)):
        client.say(piece)
    wanted = expected(said)
    assert client.story == wanted.story
    assert client.answers == wanted.answers
    assert client.done == wanted.done
    assert client.done or not client.sharer.kept


@given(said=st.lists(shareable, min_size=1, max_size=4), draw=st.data())
def test_the_beginning_of_a_command_is_kept_until_it_is_whole(said: list[list[bytes]], draw: st.DataObject) -> None:
    """What went out and what is kept are what came in, and no more is kept than one command."""
    data = b"".join(encode_command(*words) for words in said)
    data = data[: draw.draw(st.integers(0, len(data)))]
    client = Client()
    for piece in pieces(draw, data):
        client.say(piece)
    forwarded = b"".join(data for _, data in client.story)
    assert data.startswith(forwarded)
    assert client.sharer._head == data[len(forwarded) :]
    assert client.sharer.kept == (len(forwarded) < len(data))
    assert len(client.sharer._head) <= max(len(encode_command(*words)) for words in said)


@given(said=st.lists(st.one_of(inline, shareable), min_size=1, max_size=8), draw=st.data())
def test_an_inline_command_is_what_its_words_are(said: list[list[bytes]], draw: st.DataObject) -> None:
    """Wherever it is cut: what comes of its array comes of it. What needs another connection goes as it was said."""
    lines = [draw.draw(st.booleans()) and sayable(words) for words in said]
    data = b"".join(in_line(words) if line else encode_command(*words) for words, line in zip(said, lines, strict=True))
    client, other = Client(), Client()
    for piece in pieces(draw, data):
        client.say(piece)
    other.say(b"".join(encode_command(*words) for words in said))
    assert (client.answers, client.done) == (other.answers, other.done)
    assert [part for part in client.story if part[0] != "own"] == [part for part in other.story if part[0] != "own"]
    if client.story and client.story[-1][0] == "own":
        assert data.endswith(client.story[-1][1])


def sayable(words: list[bytes]) -> bool:
    """In a line."""
    return not set(b"".join(words)) & set(b"\0\r\n")


def in_line(words: list[bytes]) -> bytes:
    """As somebody types them."""
    escaped = (word.replace(b"\\", b"\\\\").replace(b'"', b'\\"') for word in words)
    return b" ".join(b'"%s"' % word for word in escaped) + b"\r\n"


def strict(data: bytes) -> list[list[bytes]] | None:
    """Commands that the data is, whole and nothing else, as the strictest server reads it; written apart."""
    commands = []
    while data:
        head, end, data = data.partition(b"\r\n")
        if not end or head[:1] != b"*" or not is_count(head[1:]):
            return None
        words = []
        for _ in range(int(head[1:])):
            size, end, data = data.partition(b"\r\n")
            if not end or size[:1] != b"$" or not is_count(size[1:]):
                return None
            length = int(size[1:])
            if data[length : length + 2] != b"\r\n":
                return None
            words.append(data[:length])
            data = data[length + 2 :]
        commands.append(words)
    return commands


def is_count(text: bytes) -> bool:
    """Digits, and none too many."""
    return text.isdigit() and len(text) < 8 and (text == b"0" or text[0] != ord("0"))


names_of_any_kind = st.sampled_from([b"GET", b"get", b"GETT", b"GE", b"MULTI", b"AUTH", b"hello", b"quit", b"client"])
noisy = st.lists(
    st.builds(lambda name, rest: encode_command(name, *rest), names_of_any_kind, st.lists(values, max_size=6)),
    min_size=1,
    max_size=4,
).map(b"".join)


@given(data=noisy, draw=st.data())
def test_a_whole_chunk_is_counted_only_when_it_is_exactly_so_many_commands(data: bytes, draw: st.DataObject) -> None:
    """Cut, doubled, a byte changed or put in: a count is right, or there is none."""
    for _ in range(draw.draw(st.integers(0, 2))):
        at = draw.draw(st.integers(0, len(data)))
        much = draw.draw(st.integers(0, 3))
        data = (
            data[:at] + draw.draw(st.sampled_from([b"", b"\r\n", b"1", b"$", b"*", b"G", INSIDE])) + data[at + much :]
        )
    count = new_sharer().whole(data)
    read = strict(data)
    if count:
        assert read is not None
        assert len(read) == count
        assert all(words[0].lower() in SHAREABLE for words in read)
    elif read:
        short = all(len(words) <= 6 and max(map(len, words), default=0) < 200 for words in read)
        assert not short or any(not words or words[0].lower() not in SHAREABLE for words in read)


@given(data=st.one_of(st.binary(max_size=300), noisy), draw=st.data())
def test_noise_is_a_violation_of_the_client_and_nothing_else(data: bytes, draw: st.DataObject) -> None:
    """And what is no violation is never lost."""
    at = draw.draw(st.integers(0, len(data)))
    data = data[:at] + draw.draw(st.binary(max_size=3)) + data[at:]
    client = Client()
    blamed = None
    try:
        for piece in pieces(draw, data):
            client.say(piece)
    except PeerViolation as violation:
        blamed = violation.side
    assert blamed in (None, Side.CLIENT)
    forwarded = b"".join(part for kind, part in client.story if kind == "forward")
    read = strict(forwarded)
    assert read is not None
    assert len(read) == client.answers


LINES = [b"+OK\r\n", b"-ERR no\r\n", b":-12\r\n", b"_\r\n", b",1.5\r\n", b"#t\r\n", b"(1234567890123456789012\r\n"]
ODD = [b"+a\rb\r\n", b"+a:1\r\n", b"$-1\r\n", b"*-1\r\n", b"+\r\n", b"*0\r\n", b"%0\r\n", b"+" + b"x" * 300 + b"\r\n"]


def sized(kind: bytes) -> st.SearchStrategy[bytes]:
    """A value of this kind."""
    return values.map(lambda value: b"%s%d\r\n%s\r\n" % (kind, len(value), value))


def gathered(kind: bytes, parts: list[bytes], each: int = 1) -> bytes:
    """Several answers as one."""
    whole = parts[: len(parts) // each * each]
    return b"%s%d\r\n" % (kind, len(whole) // each) + b"".join(whole)


scalars = st.one_of(st.sampled_from(LINES + ODD), sized(b"$"), sized(b"$"), sized(b"="), sized(b"!"))
answers = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(gathered, st.sampled_from([b"*", b"~"]), st.lists(inner, max_size=70)),
        st.builds(lambda parts: gathered(b"%", parts, 2), st.lists(inner, max_size=8)),
        st.builds(lambda parts, own: gathered(b"|", parts, 2) + own, st.lists(inner, max_size=4), inner),
    ),
    max_leaves=60,
)
many = st.one_of(
    st.lists(answers, min_size=1, max_size=12),
    st.builds(lambda one, count: [one] * count, scalars, st.integers(1, 150)),
)


@given(said=many, draw=st.data())
def test_answers_end_where_they_end(said: list[bytes], draw: st.DataObject) -> None:
    """Of both protocol versions, cut anywhere, asked for in any groups."""
    groups = []
    at = 0
    while at < len(said):
        size = draw.draw(st.sampled_from([1, 2, 3, 7, 16, 20, 64, 100]))
        groups.append(said[at : at + size])
        at += size
    heard = hear(RedisAnswers(pushes=True), pieces(draw, b"".join(said)), [len(group) for group in groups])
    assert heard == [b"".join(group) for group in groups]


def hear(answers: RedisAnswers, said: Iterable[bytes], counts: list[int]) -> list[bytes]:
    """What each of those hears who have asked for so many answers, in turn. What answers nothing nobody does."""
    heard = [b""] * len(counts)
    left = counts.copy()
    turn = 0
    for data in said:
        at = 0
        while at < len(data):
            ends = answers.skip(data, at)
            if ends == at:
                assert turn < len(counts), "answers that nobody has asked for"
                ends, left[turn] = answers.advance(data, at, left[turn])
                assert at < ends
                heard[turn] += data[at:ends]
                assert not left[turn] or data[ends : ends + 1] in (b"", b">")
                turn += not left[turn]
            at = ends
    assert turn == len(counts)
    return heard


@given(said=st.lists(answers, max_size=4), noise=st.binary(max_size=60), draw=st.data())
def test_what_is_no_answer_is_a_violation_of_the_server_and_nothing_else(
    said: list[bytes], noise: bytes, draw: st.DataObject
) -> None:
    """Behind answers that are some, cut anywhere."""
    answers = RedisAnswers(pushes=True)
    blamed = None
    try:
        for data in pieces(draw, b"".join(said) + noise):
            ends, left = answers.advance(data, 0, 1_000)
            assert ends == len(data)
            assert left > 0
    except PeerViolation as violation:
        blamed = violation.side
    assert blamed in (None, Side.UPSTREAM)


pushes = st.lists(scalars, max_size=4).map(lambda parts: gathered(b">", parts))


@given(said=st.lists(st.one_of(answers, pushes), min_size=1, max_size=12), draw=st.data())
def test_messages_that_answer_nothing_reach_nobody(said: list[bytes], draw: st.DataObject) -> None:
    """Between answers of one client's, before and behind them, cut anywhere."""
    wanted = [one for one in said if one[:1] != b">"]
    groups = [wanted[:3], *([one] for one in wanted[3:])] if wanted else []
    heard = hear(RedisAnswers(pushes=True), pieces(draw, b"".join(said)), [len(group) for group in groups])
    assert heard == [b"".join(group) for group in groups]


@given(said=st.lists(scalars, max_size=3), push=pushes, draw=st.data())
def test_in_resp2_such_a_message_is_a_violation(said: list[bytes], push: bytes, draw: st.DataObject) -> None:
    """It does not know them."""
    with pytest.raises(PeerViolation, match="message"):
        hear(RedisAnswers(pushes=False), pieces(draw, b"".join(said) + push), [1] * (len(said) + 1))


@given(parts=st.lists(answers, max_size=3), push=pushes, draw=st.data())
def test_a_message_inside_an_answer_is_a_violation(parts: list[bytes], push: bytes, draw: st.DataObject) -> None:
    """It may come between answers alone."""
    at = draw.draw(st.integers(0, len(parts)))
    answer = gathered(b"*", [*parts[:at], push, *parts[at:]])
    with pytest.raises(PeerViolation, match="inside"):
        hear(RedisAnswers(pushes=True), pieces(draw, answer), [1])
