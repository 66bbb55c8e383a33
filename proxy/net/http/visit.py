"""What the audit log hears of a client's connection: a session for each pass it uses, and what was refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from proxy.errors import Refused
from proxy.net.events import LoginFacts, RequestDone, SessionEnd, SessionRefusal, SessionStart
from proxy.net.http.bodies import MemoryBody
from proxy.net.http.exchange import Exchange
from proxy.net.http.house import House
from proxy.net.http.passes import Pass

KNOWN_BYTES: Final = 64 * 1024
"""Of a body, in which an engine looks for the name of a table."""


class Visit:
    """One connection's. A session begins with the first request that is let in, and ends with the connection."""

    __slots__ = ("_began_at", "_bytes_in", "_bytes_out", "_counters", "_house", "_http", "_requests", "facts", "holder")

    def __init__(self, house: House, facts: LoginFacts) -> None:
        self.facts = facts
        self._house = house
        self._http = house.http
        self._counters = house.counters
        self.holder: Pass | None = None
        self._began_at = 0.0
        self._requests = self._bytes_in = self._bytes_out = 0

    def let_in(self, holder: Pass) -> None:
        """A request goes with this pass."""
        grant = holder.grant
        if self.holder is holder or grant is None:
            return
        self.over("client")
        self.holder = holder
        self._began_at = self._house.tick
        self.facts = replace(
            self.facts,
            workload=holder.workload,
            database=holder.database,
            db_user=holder.db_user,
            decision_id=grant.decision_id,
            credential_id=grant.credential_id,
            reused=grant.reused,
        )
        counters = self._house.counters
        counters.login("ok")
        counters.sessions_open += 1
        self._house.log.on_start(SessionStart(facts=self.facts, seconds=0.0))

    def answered(self, exchange: Exchange) -> None:
        """A request is done."""
        counters = self._counters
        self._http.answers[exchange.status] += 1
        body, sent = exchange.body, exchange.sent
        received = len(exchange.small) if body is None else body.size
        counters.bytes_to_upstream += received
        counters.bytes_to_client += sent
        self._requests += 1
        self._bytes_in += received
        self._bytes_out += sent
        holder = exchange.holder
        if holder is not None and holder.audited:
            self._write_down(exchange, received)

    def _write_down(self, exchange: Exchange, received: int) -> None:
        way = exchange.way
        body = exchange.body
        known = b"".join(body.parts[:2]) if isinstance(body, MemoryBody) else exchange.small
        self._house.log.on_request(
            RequestDone(
                facts=self.facts,
                method=exchange.method.decode("ascii", "replace"),
                names={} if way is None else self._house.engine.facts(exchange.head, way.plan, known[:KNOWN_BYTES]),
                status=exchange.status,
                bytes_to_client=exchange.sent,
                bytes_to_upstream=received,
                seconds=asyncio.get_running_loop().time() - exchange.began_at,
            )
        )

    def refused(self, refusal: Refused, holder: Pass | None) -> None:
        """The proxy itself answered a request with this."""
        counts = self._house.http.refused
        counts[refusal.reason] = counts.get(refusal.reason, 0) + 1
        facts = replace(self.facts, decision_id=refusal.decision_id)
        if holder is not None:
            facts = replace(facts, workload=holder.workload, database=holder.database, db_user=holder.db_user)
        self._house.log.on_refusal(
            SessionRefusal(facts=facts, reason=refusal.reason, message=refusal.message, seconds=0.0)
        )

    def over(self, ended: str) -> None:
        """The session, if there is one, has ended."""
        if self.holder is None:
            return
        self.holder = None
        self._house.counters.sessions_open -= 1
        self._house.counters.session_ended(ended)
        self._house.log.on_end(
            SessionEnd(
                facts=replace(self.facts, notes={"requests": str(self._requests)}),
                ended=ended,
                reason=None,
                message="",
                seconds=self._house.tick - self._began_at,
                bytes_to_client=self._bytes_out,
                bytes_to_upstream=self._bytes_in,
            )
        )
        self._requests = self._bytes_in = self._bytes_out = 0
