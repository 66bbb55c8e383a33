"""What an engine is, as the driver and the listener see it. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from proxy.errors import Refused
from proxy.http.heads import RequestHead, ResponseHead
from proxy.http.model import Plan, Probe, Reply, Verdict
from proxy.model import Door, Outcome
from proxy.script import Script
from tollbridge.reasons import Reason


class Engine(Protocol):
    """One protocol."""

    alpn: tuple[str, ...]
    """ALPN names offered to clients that start with TLS; empty where the protocol has none."""

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from its first byte to Established. Every refusal ends with a native error."""
        ...

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half alone: grant, connect, TLS, login, one trivial query, goodbye. Returns what it saw."""
        ...

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet (the listener is full or draining)."""
        ...


class HttpEngine(Protocol):
    """One service spoken over HTTP/1.1: every request is signed for itself, so there is no login to script."""

    services: frozenset[str]
    """SigV4's names of the services whose keys sign for it."""
    payload_header: bool
    """Whether requests carry their body's hash in X-Amz-Content-Sha256."""

    def plan(self, head: RequestHead, endpoint_host: str) -> Plan:
        """What a request is and where it goes, by first line, content type and X-Amz-Target alone: the next with the
        same three has the same plan. Raises Refused, and PeerViolation for a target nobody should send."""
        ...

    def takes_unsigned(self, service: str) -> bool:
        """Whether a body may be sent without its hash being signed."""
        ...

    def refuse(self, refusal: Refused, status: int | None = None) -> Reply:
        """A refusal as the service itself would say it; with another HTTP status where one is given."""
        ...

    def judge(self, head: ResponseHead, body: bytes) -> Verdict:
        """What an answer of 400, 401 or 403 says of our signature."""
        ...

    def facts(self, head: RequestHead, plan: Plan, body: bytes) -> Mapping[str, str]:
        """What an audit line names: a table, an index; never content. `body`: as much of it as is in memory."""
        ...

    def probe(self) -> Probe:
        """A request that shows whether we are let in."""
        ...

    def probed(self, head: ResponseHead, body: bytes) -> str:
        """What the answer to the probe shows. Raises Refused."""
        ...
