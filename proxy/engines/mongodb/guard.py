"""What the proxy does in a session that runs: holds each message's `$db` to the rules, keeps the driver here. PURE.

    every message           its `$db` was allowed by the broker, or is asked about before the message goes on
    hello, isMaster         goes on; the server's answer is rewritten as the first one was
    saslStart, authenticate, logout and the like    answered here: the session's login is the proxy's
    "not primary" errors    pass, and the session ends: a new connection finds the new primary

A message that is not wholly there yet is kept while it is short. A long one goes on as it comes, but for its end: until
its `$db` is known and allowed its last byte stays here, and without that no server runs it.

The server's messages pass unread but for their headers, answers to hello, and short ones that may say "not primary".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.engines.mongodb import bson, greeting
from proxy.engines.mongodb.answers import Answers
from proxy.engines.mongodb.refusals import FAILED, UNAUTHORIZED, document, error_document
from proxy.engines.mongodb.scanner import LongMessage, Request, check_opcode, judge, scan
from proxy.engines.mongodb.wire import (
    HANDSHAKE_LIMIT,
    HEADER_BYTES,
    OP_MSG,
    OP_MSG_BYTES,
    OP_QUERY,
    Header,
    Message,
    command,
    parse_header,
    parse_message,
    reply,
)
from proxy.errors import PeerViolation, Refused
from proxy.guard import Answer, Drop, Guard, Inject, Pass, Permit, Refuse, Release, Stop, Verdict
from proxy.script import CLIENT
from tollbridge.reasons import Reason

KEEP_BYTES: Final = 65_536
"""A message is kept until it is whole, up to this size."""
NAMES_MAX: Final = 1_000
"""Logical databases that one session may use, or ask for in vain."""
OF_THE_CONNECTION: Final = frozenset(
    {
        "hello", "ismaster", "ping", "buildinfo", "endsessions", "refreshsessions", "startsession", "killsessions",
        "committransaction", "aborttransaction", "connectionstatus", "whatsmyuri", "getlasterror",
    }
)  # fmt: skip
"""Commands about the session or the server, which drivers send to `admin` whatever database they work in."""
OF_THE_LOGIN: Final = frozenset({"saslstart", "saslcontinue", "authenticate", "logout", "getnonce", "copydbsaslstart"})

_NOT_PASSED: Final = frozenset(name.encode() for name in OF_THE_LOGIN | greeting.NAMES)


@dataclass(frozen=True, slots=True)
class _Step:
    """What happens to the next bytes of the client."""

    taken: int = 0
    """How many they are; 0: nothing happens until more have come."""
    onward: bytes = b""
    """What the server gets in their place."""
    said: bytes = b""
    """What the client is told."""
    then: tuple[Verdict, ...] = ()
    """What happens before anything else does."""


class MongoGuard(Guard):
    """One session."""

    watches_upstream = True

    def __init__(self, *, address: str, db_user: str, message_bytes: int, primary: bool) -> None:
        """`address` is what drivers are told to connect to; `message_bytes` what the server takes."""
        self._db_user = db_user
        self._message_bytes = message_bytes
        self._names: dict[str, Refused | None] = {}
        """Logical databases asked about: allowed where None."""
        self._allowed: set[bytes] = set()
        """Those that are allowed, as messages name them."""
        self._head = b""
        """Begin of a message; the server has not seen it."""
        self._long: LongMessage | None = None
        """A message that goes on in pieces, of which `_head` holds what the scanner has seen and the server not."""
        self._long_header = Header(0, 0, 0, OP_MSG)
        self._long_fed = 0
        """Bytes at the begin of `_head` that the scanner has seen."""
        self._long_allowed = False
        self._asking = False
        """The broker is asked about a `$db`."""
        self._waiting = False
        """The client's next question waits until the server has answered those before it."""
        self._answers = Answers(address, primary=primary)

    def farewell(self, refusal: Refused) -> bytes:
        """A goodbye is an answer: to the question that waits for one, or else nothing but the end."""
        waiting = self._long_header if self._long is not None else self._answers.unanswered
        if waiting is None and len(self._head) >= HEADER_BYTES:
            waiting = parse_header(self._head[:HEADER_BYTES], CLIENT)
        return b"" if waiting is None else reply(waiting, document(refusal))

    def at_rest(self, _tail: bytes) -> bool:
        """Whether the server is between two answers."""
        return self._answers.at_rest

    # The client's side

    def passes(self, data: bytes) -> bool:
        # One whole message to a database that is allowed: most are.
        if self._head or self._long is not None or len(data) > self._message_bytes or len(data) < HEADER_BYTES:
            return False
        if int.from_bytes(data[:4], "little") != len(data) or data[12:16] != OP_MSG_BYTES:
            return False
        try:
            command, database, answered = scan(data, 0, len(data))
        except PeerViolation:
            return False  # it will be said when the message is shown
        if database not in self._allowed or command.lower() in _NOT_PASSED:
            return False
        if answered:
            self._answers.expect(int.from_bytes(data[4:8], "little", signed=True))
        return True

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        return self._guarding(data, self._client)

    def permitted(self, db_name: str, refusal: Refused | None) -> Sequence[Verdict]:
        self._asking = False
        self._names[db_name] = refusal
        if refusal is None:
            self._allowed.add(db_name.encode() + b"\0")
        return self._resumed()

    def _resumed(self) -> list[Verdict]:
        """The client's side goes on: first with what is here, then with what it is shown."""
        verdicts = self._guarding(b"", self._client)
        return verdicts if self._asking or self._waiting else [*verdicts, Release(CLIENT)]

    def _client(self, data: bytes) -> list[Verdict]:
        known = len(self._head)
        chunk = self._head + data
        at = 0
        onward, said = list[bytes](), list[bytes]()
        then: tuple[Verdict, ...] = ()
        while at < len(chunk) and not then:
            step = self._step(chunk, at)
            at += step.taken
            onward.append(step.onward)
            said.append(step.said)
            then = step.then
            if not step.taken:
                break
        self._head = chunk[at:]
        passed, told = b"".join(onward), b"".join(said)
        if data and not known and passed == data and not then:
            return [Pass(len(data))]
        verdicts: list[Verdict] = [Inject(passed)] if passed else []
        if told:
            verdicts.append(Answer(told))
        if data:
            verdicts.append(Drop(len(data)))
        return [*verdicts, *then]

    def _step(self, chunk: bytes, at: int) -> _Step:
        if self._long is not None:
            return self._long_step(self._long, chunk, at)
        there = len(chunk) - at
        if there < HEADER_BYTES:
            return _Step()
        header = self._check(parse_header(chunk[at : at + HEADER_BYTES], CLIENT))
        if there < header.length:
            if header.length <= KEEP_BYTES:
                return _Step()
            self._long, self._long_header = LongMessage(header.length), header
            self._long_fed, self._long_allowed = 0, False
            return self._long_step(self._long, chunk, at)
        message = chunk[at : at + header.length]
        return self._whole(header, message)

    def _check(self, header: Header) -> Header:
        if header.length > self._message_bytes:
            raise PeerViolation(CLIENT, f"a message of {header.length} bytes; the server takes {self._message_bytes}")
        if header.opcode != OP_QUERY:
            check_opcode(header.opcode)
        elif header.length > HANDSHAKE_LIMIT:
            raise PeerViolation(CLIENT, f"an OP_QUERY of {header.length} bytes: tollbridge takes OP_MSG")
        return header

    def _whole(self, header: Header, message: bytes) -> _Step:
        """A message that has come wholly."""
        if header.opcode == OP_QUERY:  # nothing but an old driver's hello
            return self._hello(header, message)
        request = judge(message, 0, header.length)
        name = request.command.lower()
        if name in greeting.NAMES:
            return self._hello(header, message)
        if name in OF_THE_LOGIN:
            try:
                return self._say(header, self._of_the_login(name, header, message))
            except bson.BsonError as error:
                raise PeerViolation(CLIENT, f"a {request.command} that makes no sense: {error}") from error
        if name not in OF_THE_CONNECTION:
            if request.database not in self._names:
                return self._ask(request.database)
            if (refusal := self._names[request.database]) is not None:
                return self._refused(header, request, refusal)
        if request.answered:
            self._answers.expect(header.request_id)
        return _Step(header.length, onward=message)

    def _long_step(self, long: LongMessage, chunk: bytes, at: int) -> _Step:
        """The next piece of a long message. It goes on at once, but for that which completes what is to be known."""
        seen = at + self._long_fed
        piece = chunk[seen : seen + long.left]
        long.feed(piece)
        self._long_fed += len(piece)
        if long.request is not None and not self._long_allowed:
            refusal_or_ask = self._judge_long(long.request)
            if refusal_or_ask is not None:
                return refusal_or_ask
            self._long_allowed = True
            if long.request.answered:
                self._answers.expect(self._long_header.request_id)
        taken, self._long_fed = self._long_fed, 0
        if not long.left:
            self._long = None
        return _Step(taken, onward=chunk[at : at + taken])

    def _judge_long(self, request: Request) -> _Step | None:
        """The server has most of it already: a message that must not go on ends the session."""
        name = request.command.lower()
        if name in OF_THE_LOGIN or name in greeting.NAMES:
            raise PeerViolation(CLIENT, f"a {request.command} of {self._long_header.length} bytes")
        if name in OF_THE_CONNECTION:
            return None
        if request.database not in self._names:
            return self._ask(request.database)
        refusal = self._names[request.database]
        return None if refusal is None else _Step(then=(Refuse(refusal),))

    def _ask(self, db_name: str) -> _Step:
        """Whether the rules let this workload into a logical database."""
        if len(self._names) >= NAMES_MAX:
            message = f"a session may use at most {NAMES_MAX} databases: connect anew"
            return _Step(then=(Refuse(Refused(Reason.FEATURE_REFUSED, message)),))
        self._asking = True
        return _Step(then=(Permit(db_name), Stop(CLIENT)))

    def _say(self, header: Header, said: bytes) -> _Step:
        """Answer in the server's place, in its turn."""
        if self._answers.unanswered is not None:
            self._waiting = True
            return _Step(then=(Stop(CLIENT),))
        return _Step(header.length, said=reply(header, said))

    def _refused(self, header: Header, request: Request, refusal: Refused) -> _Step:
        """Say no, once: the rules may be others by the next time. Who wants no answer gets none, as of a server."""
        step = self._say(header, document(refusal)) if request.answered else _Step(header.length)
        if not self._waiting:
            del self._names[request.database]
        return step

    def _hello(self, header: Header, message: bytes) -> _Step:
        """Ask the server as the first time."""
        asked = parse_message(header, message, CLIENT)
        if asked.command not in greeting.NAMES:
            raise PeerViolation(CLIENT, "an OP_QUERY that is no hello: tollbridge takes OP_MSG")
        self._answers.expect_hello(header)
        return _Step(header.length, onward=command(header.request_id, *greeting.question(asked.body), database="admin"))

    def _of_the_login(self, name: str, header: Header, message: bytes) -> bytes:
        """The answer to a command that would change who the session is."""
        if name == "authenticate" and _names_x509(asked := parse_message(header, message, CLIENT)):
            # The certificate was checked when TLS began; a driver that was told to use it waits for this.
            user = asked.body["user"].text() if "user" in asked.body else self._db_user
            return bson.write((bson.string("dbname", "$external"), bson.string("user", user), bson.double("ok", 1.0)))
        if name == "logout":
            return error_document(*UNAUTHORIZED, f"tollbridge: the session stays {self._db_user!r}: close it instead")
        return error_document(
            *FAILED,
            "tollbridge: no user name and password are needed here, so none are taken: remove them from the "
            "connection string (authMechanism=MONGODB-X509 is taken where a certificate says who you are)",
        )

    # The server's side

    def passes_upstream(self, data: bytes) -> bool:
        return not self._waiting and self._answers.pass_whole(data)

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        return self._guarding(data, self._upstream)

    def _upstream(self, data: bytes) -> list[Verdict]:
        heard = self._answers.feed(data)
        verdicts: list[Verdict] = [Pass(len(data))] if heard == data else [Answer(heard), Drop(len(data))]
        if self._answers.lost_primary:
            message = "the server is no longer the primary: connect again, and the endpoint leads to the new one"
            return [*verdicts, Refuse(Refused(Reason.UPSTREAM_CLOSED, message))]
        if self._waiting and self._answers.unanswered is None:
            self._waiting = False
            verdicts += self._resumed()
        return verdicts

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        return ()  # a login lasts as long as its connection: nothing was asked for

    def _guarding(self, data: bytes, decide: Callable[[bytes], list[Verdict]]) -> list[Verdict]:
        try:
            return decide(data)
        except PeerViolation as violation:
            refuse = Refuse(violation.as_refusal())
            return [Drop(len(data)), refuse] if data else [refuse]


def _names_x509(asked: Message) -> bool:
    mechanism = asked.body.get("mechanism")
    return mechanism is not None and mechanism.kind == bson.STRING and mechanism.text() == "MONGODB-X509"
