"""Whose keys a request is signed with: grants, used for a second before they are asked for again.

A pass is what one workload has for one role in one database. The grant cache behind it knows how long decisions and
credentials live; asking it costs a coroutine, so a pass answers by itself for `FRESH_SECONDS`. That is also how long,
at most, a withdrawn permission is used on after the proxy has heard of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from proxy.engine import HttpEngine
from proxy.errors import Refused
from proxy.http.heads import RequestHead
from proxy.http.model import Plan
from proxy.http.target import Target
from proxy.model import Location, SealedGrant
from proxy.net import crashes
from proxy.net.http.pool import Pool, Pools, Spawn
from proxy.net.services import Grants
from proxy.sigv4 import Envelope, Signer, Stamp
from tollbridge.clock import Clock
from tollbridge.model import Endpoint, SigningKey, TlsFacts
from tollbridge.reasons import Reason

FRESH_SECONDS: Final = 1.0
PASSES_LIMIT: Final = 4096
WAYS_LIMIT: Final = 256
"""Kinds of requests per pass that are not planned anew each time."""

WAY_BYTES: Final = 512
"""Of what tells one kind from another; a longer one is planned each time."""

LANES_LIMIT: Final = 8
"""Hosts per pass: the names that belong to one endpoint."""

_log = logging.getLogger(__name__)


class Waiter(Protocol):
    """A request that waits for its pass."""

    def granted(self) -> None: ...

    def refused(self, refusal: Refused) -> None: ...

    def crashed(self) -> None:
        """A bug of ours, found in one of these: nothing is known to be right any more."""
        ...


class Lane:
    """One host for one pass: the signer that may sign for it, and the connections it goes over."""

    __slots__ = ("_authority", "_signer", "credential_id", "hashes", "pool", "unsigned")

    def __init__(self, key: SigningKey, grant: SealedGrant, pool: Pool, *, unsigned: bool, hashes: bool) -> None:
        """`hashes`: a body's hash is a header too."""
        self.credential_id = grant.credential_id
        self.pool = pool
        self.unsigned = unsigned
        self.hashes = hashes
        self._authority = pool.authority.encode()
        self._signer = Signer(key, pool.authority)

    def envelope(self, stamp: Stamp, head: RequestHead, target: Target, payload: bytes) -> Envelope:
        """What comes before a request's signature, its first line among it, and makes that. Raises NoKey."""
        envelope = self._signer.envelope(
            stamp,
            head.method,
            target.canonical_path,
            target.canonical_query,
            content_type=head.content_type,
            amz_target=head.amz_target,
            payload=payload if self.hashes else b"",
        )
        envelope.head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (head.method, target.wire, self._authority, envelope.head)
        return envelope


class Way:
    """How requests go that have the same first line, content type and operation, with one grant."""

    __slots__ = ("_envelope", "_stamp", "_stamps", "lane", "plan", "pool")

    def __init__(self, plan: Plan, lane: Lane) -> None:
        self.plan = plan
        self.lane = lane
        self.pool = lane.pool
        self._stamps = lane.pool.stamps
        self._stamp: Stamp | None = None
        self._envelope: Envelope | None = None

    def envelope(self, head: RequestHead, payload: bytes) -> Envelope:
        """For a request that is sent now; for the next of the same second it is the same. Raises NoKey."""
        stamp, envelope = self._stamps.now(), self._envelope
        if envelope is None or stamp is not self._stamp:
            envelope = self.lane.envelope(stamp, head, self.plan.target, payload)
            if not self.lane.hashes:
                self._envelope, self._stamp = envelope, stamp
        return envelope


class Pass:
    """What one workload has for one role in one database."""

    def __init__(self, workload: str, database: str, db_user: str, *, audited: bool) -> None:
        self.workload = workload
        self.database = database
        self.db_user = db_user
        self.audited = audited
        """Each request is written down."""
        self.grant: SealedGrant | None = None
        self.fresh_until = float("-inf")
        self.key: SigningKey | None = None
        self.lanes: dict[str, Lane] = {}
        self.ways: dict[tuple[bytes, bytes, bytes, bytes], Way] = {}
        self.waiting: list[Waiter] = []
        self.rejected = ""
        self.flying = False


class Passes:
    """All passes of one listener."""

    def __init__(
        self,
        *,
        engine: HttpEngine,
        grants: Grants,
        pools: Pools,
        clock: Clock,
        spawn: Spawn,
        audited: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`audited`: whether each request to a database is written down."""
        self._audited = audited
        self._engine = engine
        self._grants = grants
        self._pools = pools
        self._clock = clock
        self._spawn = spawn
        self._passes: OrderedDict[tuple[str, str, str], Pass] = OrderedDict()

    def of(self, workload: str, database: str, db_user: str) -> Pass:
        """The pass, perhaps without a grant yet."""
        key = (workload, database, db_user)
        found = self._passes.get(key)
        if found is None:
            found = self._passes[key] = Pass(*key, audited=self._audited(database))
            if len(self._passes) > PASSES_LIMIT:
                self._passes.popitem(last=False)
        else:
            self._passes.move_to_end(key)
        return found

    def want(self, wanted: Pass, waiter: Waiter, rejected: str = "") -> None:
        """Ask for a grant; `waiter` hears of it. `rejected`: the credential that upstream has just refused."""
        wanted.waiting.append(waiter)
        self.renew(wanted, rejected)

    def renew(self, wanted: Pass, rejected: str = "") -> None:
        """Ask for a grant. `rejected`: the credential that upstream has just refused."""
        if rejected and wanted.grant is not None and wanted.grant.credential_id == rejected:
            wanted.rejected = rejected
            wanted.fresh_until = float("-inf")
        if not wanted.flying:
            wanted.flying = True
            self._spawn(lambda: self._ask(wanted), f"grant {wanted.database} for {wanted.workload}")

    def way(self, holder: Pass, head: RequestHead) -> Way:
        """How a request goes with the grant that a pass has. Raises Refused and PeerViolation."""
        key = (head.method, head.target, head.content_type, head.amz_target)
        way = holder.ways.get(key)
        if way is None:
            if holder.grant is None:
                raise Refused(Reason.INTERNAL, "a request is sent without a grant")
            plan = self._engine.plan(head, holder.grant.location.endpoint.host)
            way = Way(plan, self._lane_to(plan.host, holder))
            if len(holder.ways) >= WAYS_LIMIT:
                holder.ways.clear()
            if sum(map(len, key)) <= WAY_BYTES:
                holder.ways[key] = way
        return way

    def _lane_to(self, host: str, holder: Pass) -> Lane:
        """To a host of the endpoint that a pass was given for."""
        lane = holder.lanes.get(host)
        if lane is None:
            lane = self._lane(holder, host)
            if len(holder.lanes) < LANES_LIMIT:
                holder.lanes[host] = lane
        return lane

    def _lane(self, holder: Pass, host: str) -> Lane:
        grant, key = holder.grant, holder.key
        if grant is None or key is None:
            raise Refused(Reason.INTERNAL, "a request is sent without a grant")
        location = grant.location
        if host != location.endpoint.host:
            # Another name of the same service: same trust, but the certificate is that name's own.
            facts = location.tls
            tls = TlsFacts(mode=facts.mode, trust_store=facts.trust_store, ca_pem=facts.ca_pem)
            endpoint = Endpoint(host=host, port=location.endpoint.port)
            location = Location(database=location.database, endpoint=endpoint, tls=tls)
        engine = self._engine
        return Lane(
            key,
            grant,
            self._pools.of(location),
            unsigned=engine.takes_unsigned(key.service),
            hashes=engine.payload_header,
        )

    async def _ask(self, wanted: Pass) -> None:
        refusal: Refused | None = None
        try:
            while True:
                rejected, wanted.rejected = wanted.rejected, ""
                grant, credential = await self._grants.request(
                    workload=wanted.workload,
                    database=wanted.database,
                    db_user=wanted.db_user,
                    db_name="",
                    rejected=rejected,
                )
                self._keep(wanted, grant, credential)
                if not wanted.rejected or wanted.rejected != grant.credential_id:
                    break
        except Refused as refused:
            refusal = refused
        except Exception as fault:  # noqa: BLE001 - a bug of ours ends requests, not the listener
            _log.error("asking for a grant failed: %s", type(fault).__name__)
            refusal = Refused(Reason.INTERNAL, "internal error in the proxy: its log has the details")
        wanted.flying = False
        waiting, wanted.waiting = wanted.waiting, []
        for waiter in waiting:
            try:
                if refusal is None:
                    waiter.granted()
                else:
                    waiter.refused(refusal)
            except Exception as fault:  # noqa: BLE001 - who waits behind it has done nothing
                crashes.report(_log, "a request with a grant", fault)
                waiter.crashed()

    def _keep(self, wanted: Pass, grant: SealedGrant, credential: object) -> None:
        if not isinstance(credential, SigningKey) or credential.service not in self._engine.services:
            raise Refused(
                Reason.PRODUCT_UNSUPPORTED,
                f"the broker issues no key for database {wanted.database!r} that signs what this listener speaks",
                decision_id=grant.decision_id,
            )
        known = wanted.grant
        if known is None or known.credential_id != grant.credential_id or known.location != grant.location:
            wanted.lanes, wanted.ways = {}, {}
            wanted.key = credential
        wanted.grant = grant
        wanted.fresh_until = asyncio.get_running_loop().time() + FRESH_SECONDS
