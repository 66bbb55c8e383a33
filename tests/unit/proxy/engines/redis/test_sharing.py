"""What a client may say on a connection that it shares: by kind, in both protocol versions, the refusal beside each."""

from __future__ import annotations

import pytest

from proxy.engines.redis import sharing
from proxy.engines.redis.refusals import NO_SUCH_LOGIN, refused_command
from proxy.engines.redis.scanner import WATCHED
from proxy.engines.redis.shareable import ANSWERED, KNOWN, SHAREABLE
from proxy.engines.redis.sharing import INLINE_LIMIT, RedisSharer
from proxy.engines.redis.wire import COMMAND_LIMIT, encode_command
from proxy.errors import PeerViolation
from proxy.multiplex import Forward, Leave, Pin, Say, Step

GET = encode_command(b"GET", b"a")
GREETINGS = {b"2": b"*2\r\n$5\r\nproto\r\n:2\r\n", b"3": b"%1\r\n$5\r\nproto\r\n:3\r\n"}
OK = Say(b"+OK\r\n")
VERSIONS = [b"2", b"3"]
NULLS = {b"2": b"$-1\r\n", b"3": b"_\r\n"}


def new_sharer(version: bytes = b"3", *, default: bool = True) -> RedisSharer:
    """A client whose user is called app."""
    return RedisSharer(version=version, greeting=GREETINGS[version], names=frozenset({b"app"}), default=default)


@pytest.mark.parametrize("name", sorted(SHAREABLE))
def test_commands_with_one_answer_share(name: bytes) -> None:
    """In any case, with any arguments, on the fast way and on the long one; a longer name is another command."""
    for spelling in (name, name.upper(), name.swapcase()):
        for rest in ([], [b"a"], [b"\r\n" + GET] * 5):
            command = encode_command(spelling, *rest)
            assert new_sharer().whole(command + GET + command) == 3
            assert new_sharer().take(command + GET) == [Forward(command + GET, 2)]
        for rest in ([b"v" * 200], [b"a"] * 6, [b"v" * 50_000]):
            command = encode_command(spelling, *rest)
            assert new_sharer().whole(command) == 0
            assert new_sharer().take(GET + command) == [Forward(GET + command, 2)]
    for other in (name + b"x", b"x" + name, name[:-1] + b"\0", b""):
        if other not in SHAREABLE:
            assert new_sharer().whole(encode_command(other)) == 0
            assert new_sharer().take(encode_command(other)) == [Pin(encode_command(other), "other command")]


@pytest.mark.parametrize("name", sorted(KNOWN - SHAREABLE - ANSWERED))
def test_commands_that_do_more_than_answer_once_pin(name: bytes) -> None:
    """As soon as their name is there, with all that follows, and the log has their name."""
    for spelling in (name, name.upper(), name.title()):
        command = encode_command(spelling, b"a")
        assert new_sharer().whole(command) == 0
        assert new_sharer().whole(GET + command) == 0
        why = name.decode()
        assert new_sharer().take(GET + command + GET) == [Forward(GET, 1), Pin(command + GET, why)]
        assert new_sharer().take(command[: 9 + len(name)]) == [Pin(command[: 9 + len(name)], why)]


def test_what_has_an_effect_on_the_connection_shares_nothing() -> None:
    """The commands that a guard watches, those of a server's own lists, and modules': by name, not by our tables."""
    for names in (
        "multi exec discard watch unwatch select asking readonly readwrite reset hello auth quit client",
        "subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe monitor sync psync replconf",
        "blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop xread xreadgroup wait waitaof migrate",
        "json.set ft.search script function config debug shutdown cluster acl command",
    ):
        for name in names.encode().split():
            assert name not in SHAREABLE
            assert new_sharer().whole(encode_command(name, b"1", b"2")) == 0
    assert not WATCHED & SHAREABLE
    assert not ANSWERED & SHAREABLE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_is_remembered_for_a_login_of_its_own(version: bytes) -> None:
    """As the server would, and it is asked for nothing."""
    sharer = new_sharer(version)
    assert sharer.take(encode_command(b"CLIENT", b"GETNAME")) == [Say(NULLS[version])]
    assert sharer.take(encode_command(b"Client", b"SetName", b"shop:1")) == [OK]
    assert sharer.name == b"shop:1"
    assert sharer.take(encode_command(b"client", b"getname")) == [Say(b"$6\r\nshop:1\r\n")]
    for bad in (b"a b", b"a\n", b"\xff"):
        (step,) = sharer.take(encode_command(b"CLIENT", b"SETNAME", bad))
        assert step == Say(b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n")
    assert sharer.name == b"shop:1"
    assert sharer.take(encode_command(b"CLIENT", b"SETNAME", b"")) == [OK]
    assert sharer.name is None


def test_what_clients_say_of_themselves_is_answered() -> None:
    """CLIENT SETINFO as a server does that knows it, MAINT_NOTIFICATIONS as one does that does not."""
    sharer = new_sharer()
    assert sharer.take(encode_command(b"CLIENT", b"SETINFO", b"LIB-NAME", b"redis-py")) == [OK]
    assert sharer.take(encode_command(b"client", b"setinfo", b"lib-ver", b"8.1.0")) == [OK]
    (step,) = sharer.take(encode_command(b"CLIENT", b"SETINFO", b"lib-name", b"a b"))
    assert step == Say(b"-ERR lib-name cannot contain spaces, newlines or special characters.\r\n")
    (step,) = sharer.take(encode_command(b"CLIENT", b"MAINT_NOTIFICATIONS", b"ON"))
    assert step == Say(b"-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n")


@pytest.mark.parametrize(
    "words",
    [
        b"CLIENT ID", b"CLIENT INFO", b"CLIENT TRACKING ON", b"CLIENT NO-EVICT ON", b"CLIENT REPLY ON", b"CLIENT",
        b"CLIENT SETNAME", b"CLIENT SETNAME a b", b"CLIENT GETNAME x", b"CLIENT SETINFO lib-os x", b"CLIENT KILL ID 7",
    ],
)  # fmt: skip
def test_the_rest_of_client_is_the_servers(words: bytes) -> None:
    """What is about the connection, and what is said wrong."""
    command = encode_command(*words.split())
    assert new_sharer().take(command + GET) == [Pin(command + GET, "client")]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ([b"AUTH", b"app", b"x"], b"+OK\r\n"),
        ([b"auth", b"x"], b"+OK\r\n"),
        ([b"AUTH", b"other", b"x"], NO_SUCH_LOGIN),
        ([b"AUTH"], b"-ERR syntax error\r\n"),
        ([b"HELLO"], GREETINGS[b"3"]),
        ([b"HELLO", b"3"], GREETINGS[b"3"]),
        ([b"HELLO", b"3", b"AUTH", b"app", b"x"], GREETINGS[b"3"]),
        ([b"HELLO", b"3", b"AUTH", b"other", b"x"], NO_SUCH_LOGIN),
        ([b"HELLO", b"9"], b"-NOPROTO unsupported protocol version\r\n"),
        ([b"HELLO", b"3", b"AUTH", b"app"], b"-ERR syntax error in HELLO\r\n"),
        ([b"HELLO", b"3", b"SETNAME", b"a b"], b"-ERR Client names cannot contain spaces, newlines or special char"),
    ],
)
def test_the_login_is_answered_here(said: list[bytes], answer: bytes) -> None:
    """In its turn, between what goes upstream."""
    before, step, behind = new_sharer().take(GET + encode_command(*said) + GET + GET)
    assert (before, behind) == (Forward(GET, 1), Forward(GET + GET, 2))
    assert isinstance(step, Say)
    assert step.data.startswith(answer)


def test_a_password_without_a_user_means_the_listeners() -> None:
    """Elsewhere it names nobody."""
    said = encode_command(b"AUTH", b"x")
    assert new_sharer(default=False).take(said) == [Say(NO_SUCH_LOGIN)]


def test_hello_may_name_and_not_change_the_protocol() -> None:
    sharer = new_sharer(b"2")
    assert sharer.take(encode_command(b"HELLO", b"2", b"SETNAME", b"me")) == [Say(GREETINGS[b"2"])]
    assert sharer.name == b"me"
    other = encode_command(b"HELLO", b"3", b"SETNAME", b"you")
    assert sharer.take(other) == [Pin(other, "hello")]
    assert sharer.name == b"me"


@pytest.mark.parametrize(
    "words",
    [b"MONITOR", b"SYNC", b"PSYNC ? -1", b"REPLCONF ACK 1", b"CLIENT REPLY OFF", b"client reply skip", b"WAIT 1 0"],
)
def test_what_is_refused_is_refused_in_its_turn(words: bytes) -> None:
    """As a guard refuses it; and WAIT, which would count the writes of a connection that has made none."""
    before, step, behind = new_sharer().take(GET + encode_command(*words.split()) + GET)
    assert (before, behind) == (Forward(GET, 1), Forward(GET, 1))
    assert isinstance(step, Say)
    assert step.data.startswith(b"-ERR tollbridge refuses this: " + b" ".join(words.upper().split()[:1]))


def test_quit_says_goodbye_when_all_is_answered() -> None:
    """What is behind it is not."""
    assert new_sharer().take(GET + encode_command(b"QUIT") + GET) == [Forward(GET, 1), OK, Leave()]


@pytest.mark.parametrize("nothing", [b"*0\r\n", b"*-1\r\n"])
def test_an_empty_command_has_no_answer(nothing: bytes) -> None:
    """And the server does not hear of it."""
    assert new_sharer().whole(nothing) == 0
    assert new_sharer().take(nothing + GET + nothing + GET) == [Forward(GET, 1), Forward(GET, 1)]


@pytest.mark.parametrize(
    ("said", "step"),
    [
        (b"PING\r\n", Forward(encode_command(b"PING"), 1)),
        (b'set  k "a b\\x00" \n', Forward(encode_command(b"set", b"k", b"a b\0"), 1)),
        (b"mget " + b"k " * 20_000 + b"\n", Forward(encode_command(b"mget", *[b"k"] * 20_000), 1)),
        (b"auth app x\r\n", OK),
        (b"auth other x\r\n", Say(NO_SUCH_LOGIN)),
        (b"hello\r\n", Say(GREETINGS[b"3"])),
        (b"select 0\r\n", Forward(encode_command(b"select", b"0"), 1)),
        (b"monitor\r\n", Say(refused_command(b"monitor"))),
        (b"MULTI\r\n", Pin(b"MULTI\r\n" + GET, "multi")),
        (b"hunter2 x\r\n", Pin(b"hunter2 x\r\n" + GET, "other command")),
        (b"'' x\r\n", Pin(b"'' x\r\n" + GET, "other command")),
    ],
)
def test_inline_commands_are_taken_for_what_they_are(said: bytes, step: Step) -> None:
    """Whole, cut, and among others; no server hears them as they were said."""
    after = [] if isinstance(step, Pin) else [Forward(GET, 1)]
    assert new_sharer().whole(said) == 0
    assert new_sharer().take(GET + said + GET) == [Forward(GET, 1), step, *after]
    sharer = new_sharer()
    assert sharer.take(GET + said[:-1]) == [Forward(GET, 1)]
    assert sharer.kept
    assert sharer.take(said[-1:] + GET) == [step, *after]


@pytest.mark.parametrize("said", [b"\r\n", b"\n", b" \t\r\n"])
def test_an_empty_line_has_no_answer(said: bytes) -> None:
    assert new_sharer().take(GET + said + GET) == [Forward(GET, 1), Forward(GET, 1)]


@pytest.mark.parametrize("line", [b"\n", b"PING\n", b"auth app x\n"])
def test_many_inline_commands_at_once_pin(line: bytes) -> None:
    """They are read one by one, and nobody else is served meanwhile."""
    *few, last = new_sharer().take(line * INLINE_LIMIT + GET)
    assert last == Forward(GET, 1)
    assert len(few) == (INLINE_LIMIT if line != b"\n" else 0)
    *_, pin = new_sharer().take(line * INLINE_LIMIT + GET + line + GET)
    assert pin == Pin(line + GET, "many inline commands")
    sharer = new_sharer()
    for _ in range(2 * INLINE_LIMIT):
        assert not any(isinstance(step, Pin) for step in sharer.take(line))


@pytest.mark.parametrize("said", [b"get 'a\r\n", b"get a\0\r\n", b'get "a"b\r\n', b"x" * COMMAND_LIMIT])
def test_an_inline_command_that_servers_could_read_differently_is_a_violation(said: bytes) -> None:
    with pytest.raises(PeerViolation, match="inline"):
        new_sharer().take(GET + said)


def test_the_database_that_a_shared_connection_is_in_may_be_selected() -> None:
    """No other, and what is said wrong is the server's to say."""
    select = encode_command(b"Select", b"0")
    assert new_sharer().take(GET + select + GET) == [Forward(GET, 1), Forward(select, 1), Forward(GET, 1)]
    for words in (b"1", b"00", b"-0", b"+0", b"0 0", b"x", b""):
        other = encode_command(b"SELECT", *words.split())
        assert new_sharer().take(GET + other + GET) == [Forward(GET, 1), Pin(other + GET, "select")]


def test_a_long_command_pins_as_soon_as_its_length_is_known() -> None:
    """Up to the limit it is kept, and forwarded when it is whole."""
    head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n"
    room = COMMAND_LIMIT - len(head) - len(b"$65500\r\n\r\n")
    for size in (room, room + 1):
        sharer = new_sharer()
        announced = head + b"$%d\r\n" % size
        if size > room:
            assert sharer.take(GET + announced) == [Forward(GET, 1), Pin(announced, "long command")]
            continue
        assert sharer.take(GET + announced) == [Forward(GET, 1)]
        assert sharer.kept
        value = b"v" * size + b"\r\n"
        assert sharer.take(value[:-1]) == []
        assert sharer.take(value[-1:] + GET) == [Forward(announced + value + GET, 2)]
        assert not sharer.kept


@pytest.mark.parametrize("count", [b"20000", b"2147483648"])
def test_a_command_of_very_many_arguments_pins(count: bytes) -> None:
    """None of them could be empty enough."""
    said = b"*%s\r\n$4\r\nMGET\r\n" % count
    assert new_sharer().take(said) == [Pin(said, "long command")]


def test_a_client_with_very_many_arguments_is_the_guards_to_judge() -> None:
    said = b"*129\r\n$6\r\nCLIENT\r\n"
    assert new_sharer().take(said) == [Pin(said, "client")]


@pytest.mark.parametrize(
    "said",
    [
        b"*1\r\n$x\r\n", b"*x\r\n", b"*1\r\n$-1\r\n", b"*1\r\n:1\r\n", b"*2\r\n$3\r\nGET\r\n:1\r\n", b"*01\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\nabc\r\n", b"*1\r\n$4\r\nPING!!", b"*" + b"1" * 40,
        b"*2\r\n$3\r\nGET\r\n$01\r\na\r\n", b"*1\n$4\nPING\n" + b" " * 32,
    ],
)  # fmt: skip
def test_what_servers_could_read_differently_is_a_violation(said: bytes) -> None:
    """Never forwarded, never kept."""
    assert new_sharer().whole(said) == 0
    with pytest.raises(PeerViolation):
        new_sharer().take(GET + said)


def test_no_log_has_a_clients_word() -> None:
    """Names of commands that somebody made up may be secrets."""
    (step,) = new_sharer().take(encode_command(b"hunter2", b"x"))
    assert step == Pin(encode_command(b"hunter2", b"x"), "other command")
    assert "hunter2" not in repr(step)


def test_a_command_that_comes_byte_by_byte_is_looked_at_once() -> None:
    """A walk goes on where it was; what it has passed is not read again."""
    command = encode_command(b"MSET", *[b"k"] * 9_000)
    sharer = new_sharer()
    passed = []
    for at in range(0, len(command) - 1, 1):
        assert sharer.take(command[at : at + 1]) == []
        passed.append(sharer._walk.past if sharer._walk else 0)
    assert passed == sorted(passed)
    assert len(command) - passed[-1] < 10
    assert sharer.take(command[-1:]) == [Forward(command, 1)]


@pytest.mark.parametrize("empty", [b"*0\r\n", b"*-1\r\n", b"*-9\r\n*0\r\n"])
def test_commands_that_do_nothing_are_passed_over_at_once(empty: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many, and cut anywhere; a chunk of them must not hold up everybody else."""
    walked = []
    monkeypatch.setattr(sharing, "read_command", lambda data, at: walked.append(at))
    many = empty * 10_000
    for cut in (0, 2, len(empty) - 1, len(empty) + 1):
        sharer = new_sharer()
        first = sharer.take(GET + many[:cut])
        assert [*first, *sharer.take(many[cut:] + GET)] == [Forward(GET, 1), Forward(GET, 1)]
    assert len(walked) <= 4
