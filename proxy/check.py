"""`tollbridge-proxy check DATABASE`: one login step by step, through the very code that serves logins.

    broker      the channel to the broker, and its list of databases
    database    its row in that list
    grant       the decision and the credential
    dns tcp tls the way to the database and its certificate
    login       its answer to the credential
    query       one trivial query

Each step says how long it took; the one that fails says why and who can change that. Nothing after it is tried.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from proxy import app
from proxy.catalog import Listing
from proxy.engines import ENGINES, HTTP_ENGINES, PROTOCOLS
from proxy.errors import PeerViolation, Refused
from proxy.grants import Wish, seal
from proxy.http.probe import probe as http_probe
from proxy.model import Location, SealedGrant
from proxy.net.dial import Step
from proxy.net.driver import Driver, Services
from proxy.net.events import LoginFacts
from proxy.net.sessions import Sessions
from proxy.script import Note, Script
from proxy.settings import ProxySettings
from tollbridge.client import Client, RpcFailed, Synced, Upsert
from tollbridge.clock import Clock
from tollbridge.model import Credential, Database, StsChallenge, StsProof
from tollbridge.reasons import ROWS, Reason

T = TypeVar("T")

PROBE_SECONDS: Final = 30.0

BROKER, DATABASE, GRANT, DNS, TCP, TLS, LOGIN, QUERY = (
    "broker", "database", "grant", "dns", "tcp", "tls", "login", "query",
)  # fmt: skip

NEXT: Final = {BROKER: DATABASE, DATABASE: GRANT, GRANT: DNS, DNS: TCP, TCP: TLS, TLS: LOGIN, LOGIN: QUERY, QUERY: ""}
"""Which step a login is in once another has succeeded."""

EXIT_OK: Final = 0
EXIT_USAGE: Final = 2
EXIT_CODES: Final = {BROKER: 3, DATABASE: 3, GRANT: 4, DNS: 5, TCP: 5, TLS: 6, LOGIN: 7, QUERY: 7}
"""Exit code by the step that failed."""

STEP_NOTE: Final = "step"
"""An engine's probe may note `step: login` when the login is done, so that the query is a step of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One step, done or failed."""

    step: str
    ok: bool
    seconds: float
    detail: str
    reason: Reason | None = None


@dataclass(slots=True)
class Report:
    """What was tried. Implements `proxy.net.dial`'s `Observer`."""

    database: str
    now: Callable[[], float]
    on_result: Callable[[Result], None]
    results: list[Result] = field(default_factory=list)
    current: str = BROKER
    """The step that is under way."""
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._since = self.now()

    def step(self, step: Step) -> None:
        """A step of the network side succeeded."""
        self.done(step.name, step.detail)

    def done(self, name: str, detail: str) -> None:
        """A step succeeded."""
        self.current = NEXT[name]
        self._add(Result(step=name, ok=True, seconds=self.now() - self._since, detail=detail))

    def failed(self, refusal: Refused) -> None:
        """The step under way failed."""
        self._add(
            Result(
                step=self.current,
                ok=False,
                seconds=self.now() - self._since,
                detail=refusal.message,
                reason=refusal.reason,
            )
        )

    @property
    def exit_code(self) -> int:
        """For the shell."""
        return next((EXIT_CODES[result.step] for result in self.results if not result.ok), EXIT_OK)

    def as_json(self) -> str:
        """For programs."""
        steps = [as_record(result) for result in self.results]
        return json.dumps(
            {"database": self.database, "ok": self.exit_code == EXIT_OK, "exit_code": self.exit_code, "steps": steps},
            indent=2,
        )

    def _add(self, result: Result) -> None:
        self.results.append(result)
        self._since = self.now()
        self.on_result(result)


def as_record(result: Result) -> dict[str, Any]:
    """For programs: one step."""
    return {
        "step": result.step,
        "ok": result.ok,
        "seconds": round(result.seconds, 4),
        "detail": result.detail,
        **({"reason": str(result.reason), "fixer": str(ROWS[result.reason].fixer)} if result.reason else {}),
    }


def as_line(result: Result) -> str:
    """For people, on one line: a server's version or error is its own text, and a terminal obeys what it is sent."""
    detail = "".join(character if character.isprintable() else "?" for character in result.detail)
    head = f"{'ok' if result.ok else 'FAILED':<7}{result.step:<9}{result.seconds * 1000:>7.0f} ms  {detail}"
    if result.reason is None:
        return head
    row = ROWS[result.reason]
    retry = "; the same again may succeed later" if row.retryable else ""
    return f"{head}\n{'':<28}{result.reason}: for the {row.fixer} to fix{retry}"


class _AskedGrants:
    """Grants straight from the broker, each one a step of the report."""

    def __init__(self, client: Client, report: Report) -> None:
        self._client = client
        self._report = report

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """Raises Refused."""
        self._report.current = GRANT
        try:
            grant = await self._client.issue_credential(
                database=database, db_user=db_user, db_name=db_name, workload=workload, rejected=rejected
            )
        except RpcFailed as failed:
            if failed.reason is Reason.DATABASE_REFUSED:  # the grant was good: this is why the login failed
                self._report.current = LOGIN
            raise Refused(failed.reason, failed.message) from failed
        wish = Wish(workload=workload, database=database, db_user=db_user, db_name=db_name)
        sealed, credential = seal(wish, grant, reused=bool(rejected))
        again = "another one, after the database refused the first: " if rejected else ""
        self._report.done(
            GRANT,
            f"{again}user {sealed.user}, decision {grant.decision_id}, "
            f"expires at {grant.expires_at.isoformat(timespec='seconds')}",
        )
        return sealed, credential

    async def sign_challenge(
        self, *, workload: str, database: str, db_user: str, db_name: str, challenge: StsChallenge
    ) -> StsProof:
        """Raises Refused."""
        try:
            return await self._client.sign_challenge(
                database=database, db_user=db_user, challenge=challenge, db_name=db_name, workload=workload
            )
        except RpcFailed as failed:
            raise Refused(failed.reason, failed.message) from failed


class _NoCatalog:
    """A probe asks for a grant and never locates."""

    def locate(self, database: str) -> Location:
        """Raises Refused."""
        raise Refused(Reason.INTERNAL, f"the probe of {database} asks where it is before it asks for permission")


async def check(
    settings: ProxySettings,
    *,
    database: str,
    workload: str,
    db_user: str,
    db_name: str,
    clock: Clock,
    on_result: Callable[[Result], None],
) -> Report:
    """Try one login. Raises ValueError and TlsFilesError for files that cannot be used."""
    report = Report(database, clock.monotonic, on_result)
    async with app.make_client(settings, clock) as client:
        try:
            found = await _find(client, database, report)
            services = Services(
                grants=_AskedGrants(client, report),
                catalog=_NoCatalog(),
                dialer=app.make_dialer(settings),
                upstream_tls=app.make_upstream_tls(settings),
                sessions=Sessions(),
                clock=clock,
                gate=app.make_gate(settings),
            )
            probe = probe_of(found.protocol, workload=workload, database=database, db_user=db_user, db_name=db_name)
            driver = Driver(services, facts=LoginFacts(peer="check", door="check"), observer=report)
            try:
                saw = await driver.run(noting(probe, report), PROBE_SECONDS)
            finally:
                driver.release()
                if driver.upstream is not None:
                    driver.upstream.close()
            if report.current == LOGIN:
                report.done(LOGIN, f"as {db_user}; the time includes the query")
            report.done(QUERY, saw)
        except Refused as refusal:
            report.failed(refusal)
        except PeerViolation as violation:
            report.failed(violation.as_refusal())
    return report


def probe_of(protocol: str, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
    """The upstream half of a protocol that this proxy speaks."""
    if protocol in HTTP_ENGINES:
        engine = HTTP_ENGINES[protocol]
        return http_probe(engine, workload=workload, database=database, db_user=db_user, db_name=db_name)
    return ENGINES[protocol].probe(workload=workload, database=database, db_user=db_user, db_name=db_name)


async def _find(client: Client, name: str, report: Report) -> Database:
    """The database's row, and so its protocol. Raises Refused."""
    try:
        databases = await client.list_databases()
    except RpcFailed as failed:
        raise Refused(failed.reason, failed.message) from failed
    report.done(BROKER, f"{client.target} lists {len(databases)} databases for this proxy")
    listing = Listing()
    for database in databases:
        listing.apply(Upsert(database, ""))
    listing.apply(Synced(""))
    found = listing.find(name)
    if found is None:
        near = listing.nearest(name)
        hint = f"did you mean {near!r}?" if near else "check its name and this proxy's row in the broker's `proxies:`"
        raise Refused(Reason.DATABASE_UNKNOWN, f"the broker lists no database {name!r} for this proxy: {hint}")
    if found.protocol not in PROTOCOLS:
        raise Refused(Reason.PRODUCT_UNSUPPORTED, f"this proxy does not speak {found.protocol}")
    report.done(
        DATABASE, f"{found.product} at {found.endpoint}, account {found.account_id or 'unknown'}, {found.region}"
    )
    return found


def noting(script: Script[T], report: Report) -> Script[T]:
    """The same script, its step notes told to the report."""
    try:
        effect = script.send(None)
        while True:
            if isinstance(effect, Note) and effect.key == STEP_NOTE and effect.value == LOGIN:
                report.done(LOGIN, "accepted")
            try:
                reply = yield effect
            except (Refused, PeerViolation) as error:
                effect = script.throw(error)
            else:
                effect = script.send(reply)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        script.close()
