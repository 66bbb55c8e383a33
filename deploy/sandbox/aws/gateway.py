"""The ASGI application in front of ministack: counters, faults, the strict layer, and the /_sandbox control paths."""

import asyncio
import json
import re
from email.utils import formatdate

from . import clock, emulator, strict
from .calls import Call, parse_call
from .emulator import Message, Receive, Send
from .faults import REFUSALS, Counters, Fault, FaultBox, parse_fault
from .inventory import Inventory, refused
from .logins import LoginJudge
from .redshift import SERVICES as REDSHIFT_SERVICES
from .redshift import Redshift
from .search import Door, Search

MAX_BODY_BYTES = 17_000_000
"""More than the largest request AWS reads of any service here: DynamoDB's, of 16 MiB."""
HANG_LIMIT_SECONDS = 600.0

_CODE = re.compile(rb"<Code>([^<]+)</Code>")
_ISSUED_KEY = re.compile(rb"<AccessKeyId>([^<]+)</AccessKeyId>")
_EXPIRATION = re.compile(rb"(?<=<Expiration>)[^<]+(?=</Expiration>)")


class Gateway:
    """One per process. Loopback is its only protection: whoever reaches it may do everything."""

    def __init__(self, judge: LoginJudge, redshift: Redshift, search: Search, inventory: Inventory) -> None:
        self._judge = judge
        self._inventory = inventory
        self._search = search
        self._redshift = redshift
        self._counters = Counters()
        self._faults = FaultBox()
        self._faults_cleared = asyncio.Event()
        self._session_seconds: float | None = None
        """How long sessions of AssumeRole live, whatever their callers ask for."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await emulator.serve(scope, receive, send)
        elif (door := self._search.door(scope)) is not None:
            await self._find(door, scope, receive, send)
        elif scope["path"].startswith("/_sandbox/"):
            await self._control(scope, await _read_body(receive), send)
        else:
            await self._aws(scope, await _read_body(receive), receive, send)

    async def _find(self, door: Door, scope: Message, receive: Receive, send: Send) -> None:
        call = self._search.call(door, scope)
        self._counters.arrived(call)
        fault = self._faults.take(call)
        refusal = await self._suffer(fault) if fault else None
        if refusal is None:
            self._counters.answered(call, await self._search.serve(door, scope, receive, send))
            return
        self._counters.answered(call, refusal.status)
        content_type, text = strict.render(refusal, is_json=True, request_id="")
        await _respond(send, refusal.status, content_type, text)

    async def _aws(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode("latin-1")
        call = self._inventory.named(parse_call(headers, query, body), scope["method"], scope["path"])
        if call.service or call.signed_service:  # the rest are no API calls: metadata services, health
            self._counters.arrived(call)
        fault = self._faults.take(call)
        refusal = await self._suffer(fault) if fault else None
        refusal = refusal or strict.scope_refusal(call) or strict.dynamodb_host_refusal(call)
        if refusal is None:
            if call.access_key_id is not None:
                emulator.bury_dead_session(call.access_key_id)
            if self._inventory.serves(call):
                status, content_type, text = self._inventory.answer(
                    call, method=scope["method"], path=scope["path"], query=query, headers=headers, body=body
                )
                self._counters.answered(call, status)
                await _respond(send, status, content_type, text)
                return
            if call.service in REDSHIFT_SERVICES:
                answered = await self._ask_redshift(call, scope, headers, body)
                if isinstance(answered, tuple):
                    self._counters.answered(call, 200)
                    await _respond(send, 200, *answered)
                    return
                refusal = answered
        if refusal is None:
            answer = Answer()
            await emulator.serve(scope, _replay(body, receive), answer.collect)
            if call.name == "sts:AssumeRole":
                refusal = _review_assume_role(call, answer)
                self._shorten(answer)
            if refusal is None:
                self._counters.answered(call, answer.status)
                await answer.forward(send)
                return
        self._counters.answered(call, refusal.status)
        await _respond(send, *refused(call, refusal))

    async def _ask_redshift(
        self, call: Call, scope: Message, headers: dict[str, str], body: bytes
    ) -> tuple[str, bytes] | strict.Refusal:
        return await self._redshift.answer(
            call,
            method=scope["method"],
            path=scope["path"],
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=headers,
            body=body,
        )

    def _shorten(self, answer: "Answer") -> None:
        issued = _ISSUED_KEY.search(answer.body)
        if issued is not None and self._session_seconds is not None and answer.status == 200:
            ends_at = emulator.shorten_session(issued[1].decode(), self._session_seconds)
            answer.substitute(_EXPIRATION, ends_at.encode())

    async def _suffer(self, fault: Fault) -> strict.Refusal | None:
        if fault.mode == "delay":
            await asyncio.sleep(fault.delay_seconds)
            return None
        if fault.mode == "hang":
            try:
                async with asyncio.timeout(HANG_LIMIT_SECONDS):
                    await self._faults_cleared.wait()
            except TimeoutError:
                pass
            return strict.Refusal(status=503, code="ServiceUnavailable", message="The fault was cleared.")
        return REFUSALS[fault.mode]

    async def _control(self, scope: Message, body: bytes, send: Send) -> None:
        operation = f"{scope['method']} {scope['path'].removeprefix('/_sandbox/')}"
        try:
            if operation == "POST expire-database-users":
                await self._redshift.users.expire()
                status, document = 200, {}
            elif operation.startswith("POST inventory/"):
                self._inventory.control(operation.rpartition("/")[2], json.loads(body))
                status, document = 200, {}
            elif operation == "POST clock":
                clock.shift(_offset(json.loads(body).get("offset_seconds")))
                status, document = 200, {}
            else:
                status, document = self._controlled(operation, json.loads(body or b"{}"))
        except ValueError as error:
            status, document = 400, {"error": str(error)}
        await _respond(send, status, "application/json", json.dumps(document).encode())

    def _controlled(self, operation: str, arguments: dict[str, object]) -> tuple[int, dict[str, object]]:
        match operation:
            case "GET health":
                return 200, {"ok": True}
            case "GET counters":
                return 200, {**self._counters.snapshot()}
            case "POST counters/reset":
                self._counters.reset()
            case "GET faults":
                return 200, {"faults": [f"{f.service}:{f.action} {f.mode}" for f in self._faults.faults]}
            case "POST faults":
                self._faults.faults.append(parse_fault(arguments))
            case "DELETE faults":
                self._faults.faults.clear()
                # Wakes every hanging call; those that hang from now on wait for the next clearing.
                self._faults_cleared.set()
                self._faults_cleared = asyncio.Event()
            case "POST expire-session":
                return 200, {"expired": self._expire(arguments)}
            case "POST session-seconds":
                self._session_seconds = _seconds(arguments.get("seconds"))
            case "GET secrets":
                return 200, {"secrets": emulator.handed_out()}
            case "GET logins":
                return 200, {"logins": self._judge.logins()}
            case "DELETE logins":
                self._judge.forget()
            case _:
                return 404, {"error": f"no such control: {operation}"}
        return 200, {}

    @staticmethod
    def _expire(arguments: dict[str, object]) -> int:
        key, role_arn = arguments.get("access_key_id"), arguments.get("role_arn")
        if (key is None) == (role_arn is None):
            raise ValueError("name either an access_key_id or a role_arn")
        return emulator.expire_sessions(
            access_key_id=None if key is None else str(key), role_arn=None if role_arn is None else str(role_arn)
        )


class Answer:
    """ministack's answer, held back until it has been looked at."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    async def collect(self, message: Message) -> None:
        self._messages.append(message)

    @property
    def status(self) -> int:
        return int(self._messages[0]["status"]) if self._messages else 500

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self._messages[1:])

    def substitute(self, pattern: re.Pattern[bytes], text: bytes) -> None:
        """Put another text of the same length in the body."""
        for message in self._messages[1:]:
            message["body"] = pattern.sub(text, message.get("body", b""))

    async def forward(self, send: Send) -> None:
        for message in self._messages:
            await send(message)


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or value <= 0:
        raise ValueError("seconds must be a positive number, or null for what callers ask for")
    return float(value)


def _offset(value: object) -> float:
    if not isinstance(value, int | float):
        raise ValueError("offset_seconds must be a number")  # noqa: TRY004 - whoever calls is told, over HTTP
    return float(value)


def _review_assume_role(call: Call, answer: Answer) -> strict.Refusal | None:
    """Who calls is settled first, then the shape of the call, then whether they may, then for how long."""
    code = _CODE.search(answer.body)
    if code is not None and code[1].decode() in strict.AUTHENTICATION_CODES:
        return None
    refusal = strict.assume_role_shape_refusal(call.parameters)
    if refusal is None and code is not None and code[1] == b"AccessDenied" and b"sts:TagSession" not in answer.body:
        caller = emulator.caller_arn(call.access_key_id or "")
        refusal = strict.assume_role_denied(caller, call.role_arn or "") if caller else None
    if refusal is None and answer.status == 200:
        refusal = strict.assume_role_duration_refusal(
            call.parameters,
            max_session_duration=emulator.max_session_duration(call.role_arn or ""),
            caller_is_role_session=emulator.is_role_session(call.access_key_id or ""),
        )
    issued = _ISSUED_KEY.search(answer.body)
    if refusal is not None and issued is not None:
        emulator.drop_session(issued[1].decode())
    return refusal


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that hands out the body already read, then whatever the connection brings."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


async def _respond(send: Send, status: int, content_type: str, body: bytes) -> None:
    # Clients measure their clock skew on AWS's Date.
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"date", formatdate(usegmt=True).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
