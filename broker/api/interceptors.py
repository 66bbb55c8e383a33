"""What happens around every RPC: who calls, may they, is there room; and how a failure is told.

Order: identity, access row, limits, handler. A BrokerError becomes its status; anything else is our bug: INTERNAL with
an id that the log explains, and not a word of the exception.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, TypeAlias

import grpc

from broker.access.operators import Power
from broker.api import identity, table
from broker.api.status import status_of
from broker.errors import BrokerError
from tollbridge.clock import Clock
from tollbridge.process import telemetry
from tollbridge.process.telemetry import Counters
from tollbridge.reasons import Reason

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic to mypy alone

May = Callable[[str, Power], bool]
"""Whether a caller has a power over anything: `broker.access.operators.Operators.may`."""

CANCELLED: Final = "CANCELLED"
"""In metrics: the client left, its deadline passed, or its connection ended."""

MAX_CALL_SECONDS: Final = 20.0
"""No unary call runs longer, whatever deadline its caller set."""

_KEPT: Final = 8
"""One of so many places is kept for callers that hold few of them,"""
_FEW: Final = 32
"""which is less than one of so many."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_log = logging.getLogger(__name__)


def nobody(_caller: str, _power: Power) -> bool:
    """The `May` of a broker without operators."""
    return False


def not_an_operator(caller: str, power: Power, what: str = "") -> BrokerError:
    """The refusal of a caller whose `operators:` rows do not say so."""
    return BrokerError(
        Reason.CALLER_NOT_ALLOWED,
        f"{caller} may not {power.value}{f' {what}' if what else ''}: no row of operators gives it that power; "
        f"add a row {{caller: {caller}, may: [{power.value}]}} to the broker's configuration",
        metadata={"caller": caller, "power": power.value},
    )


class Room:
    """How much the broker does at once: calls in flight and open watches, over all listeners.

    The last places are for callers that hold few, so that whoever has one certificate keeps nobody else out.
    """

    def __init__(self, *, max_calls: int = 1_000, max_watches: int = 5_000) -> None:
        self._max = {table.Load.CALL: max_calls, table.Load.WATCH: max_watches}
        self.taken = {table.Load.CALL: 0, table.Load.WATCH: 0}
        self._held: Counter[tuple[table.Load, str]] = Counter()

    @contextmanager
    def take(self, load: table.Load, caller: str = "") -> Iterator[None]:
        """Hold one place. Raises BROKER_OVERLOADED when there is none, or none but those kept for others."""
        if load is table.Load.NONE:
            yield
            return
        most, holder = self._max[load], (load, caller)
        if self.taken[load] >= most:
            raise BrokerError(
                Reason.BROKER_OVERLOADED,
                f"this broker has all of its {most} {load.value} taken: try again in a moment; if it stays "
                "so, add brokers or raise the limit",
            )
        if self.taken[load] >= most - most // _KEPT and self._held[holder] >= max(1, most // _FEW):
            raise BrokerError(
                Reason.BROKER_OVERLOADED,
                f"this broker keeps the last of its {most} {load.value} for others than {caller or 'you'}, who has"
                f" {self._held[holder]}: try again in a moment; if it stays so, add brokers or raise the limit",
            )
        self.taken[load] += 1
        self._held[holder] += 1
        try:
            yield
        finally:
            self.taken[load] -= 1
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]


class RpcMetrics:
    """What /metrics says about RPCs. Made once, shared by all listeners."""

    def __init__(self, counters: Counters, room: Room, clock: Clock) -> None:
        self._clock = clock
        self._done = counters.counter(
            "tollbridge_broker_rpcs",
            "RPCs that ended, by method and reason (OK: answered; CANCELLED: the client left first).",
            (telemetry.METHOD, telemetry.REASON),
        )
        self._seconds = counters.histogram(
            "tollbridge_broker_rpc_seconds", "Time to answer unary RPCs.", _SECONDS, (telemetry.METHOD,)
        )
        counters.read_gauge(
            "tollbridge_broker_rpcs_in_flight",
            "RPCs being served.",
            lambda: {(load.name.lower(),): count for load, count in room.taken.items()},
            ("kind",),
        )

    def began(self) -> float:
        """A reading to give to `ended`."""
        return self._clock.monotonic()

    def ended(self, method: str, reason: str, began: float | None) -> None:
        """Count an RPC; `began` is None for streams, whose length says nothing."""
        self._done.add(method, reason)
        if began is not None:
            self._seconds.observe(self._clock.monotonic() - began, method)


class Guard(grpc.aio.ServerInterceptor):
    """The interceptor of one listener."""

    def __init__(
        self, identify: identity.Identify, room: Room, metrics: RpcMetrics, seconds: float, may: May = nobody
    ) -> None:
        self._seconds = seconds
        self._may = may
        self._identify = identify
        self._room = room
        self._metrics = metrics
        self._guarded: dict[str, Handler] = {}
        self._scopes: set[asyncio.Timeout] = set()

    def end_foreign_streams(self) -> None:
        """End the streams of services that are not ours (health): an open one would use up the grace of a stop."""
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():  # a stop that is cut short is followed by another, perhaps at this moment
                scope.reschedule(now)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Called by gRPC for each RPC; None lets it answer UNIMPLEMENTED."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            guarded = self._guarded[method] = self._guard(method, handler)
        return guarded

    def _guard(self, method: str, handler: Handler) -> Handler:
        wrap = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **wrap)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), **wrap)
        raise NotImplementedError(f"{method} takes a stream: write a guard for that before serving it")

    def _unary(self, method: str, inner: Any) -> Any:
        async def guarded(request: object, context: Context) -> object:
            began = self._metrics.began()
            try:
                with self._admit(method, context):
                    async with asyncio.timeout(self._seconds):
                        answer = await inner(request, context)
            except asyncio.CancelledError:
                self._metrics.ended(method, CANCELLED, began)
                raise
            except Exception as error:  # noqa: BLE001 - the one place that turns failures into statuses
                refusal = self._refusal(method, error)
            else:
                self._metrics.ended(method, "OK", began)
                return answer
            self._metrics.ended(method, refusal.reason, began)
            return await context.abort_with_status(status_of(refusal))

        return guarded

    def _stream(self, method: str, inner: Any) -> Any:
        async def guarded(request: object, context: Context) -> AsyncIterator[object]:
            try:
                with self._admit(method, context):
                    if inspect.isasyncgenfunction(inner):
                        async with aclosing(inner(request, context)) as messages:
                            async for message in messages:
                                yield message
                    else:
                        await self._until_ended(inner(request, context))
            except (asyncio.CancelledError, GeneratorExit):
                self._metrics.ended(method, CANCELLED, None)
                raise
            except Exception as error:  # noqa: BLE001 - the one place that turns failures into statuses
                refusal = self._refusal(method, error)
            else:
                self._metrics.ended(method, "OK", None)
                return
            self._metrics.ended(method, refusal.reason, None)
            await context.abort_with_status(status_of(refusal))

        return guarded

    async def _until_ended(self, stream: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(None) as scope:
                self._scopes.add(scope)
                await stream
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._scopes.discard(scope)

    @contextmanager
    def _admit(self, method: str, context: Context) -> Iterator[None]:
        row, caller = table.ACCESS.get(method), ""
        if row is None:
            raise BrokerError(Reason.CALLER_NOT_ALLOWED, f"nobody may call {method}: it has no row in the access table")
        if row.who is not table.Who.ANYBODY:
            caller = self._identify(context)
            if (power := table.POWERS.get(row.who)) is not None and not self._may(caller, power):
                raise not_an_operator(caller, power)
            identity.enter(caller)
        with self._room.take(row.load, caller):
            yield

    def _refusal(self, method: str, error: Exception) -> BrokerError:
        if isinstance(error, BrokerError):
            return error
        if isinstance(error, TimeoutError):
            return BrokerError(
                Reason.BROKER_UNAVAILABLE,
                f"the broker gave up after {self._seconds:g} s: AWS may be slow, try again",
            )
        error_id = secrets.token_hex(8)
        _log.error(
            "an RPC failed for a reason nobody foresaw",
            exc_info=error,
            extra={telemetry.METHOD: method, telemetry.ERROR_ID: error_id},
        )
        return BrokerError(
            Reason.INTERNAL,
            f"internal error {error_id}: the broker's log explains it under this id",
            metadata={telemetry.ERROR_ID: error_id},
        )
