"""What would be decided about a request, and what would be done then, step by step. PURE.

The same functions decide here as when a credential is asked for; nothing is asked of AWS and nothing is issued. So it
serves a running broker (AccessService.Explain) and a configuration file on somebody's desk alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from broker.access.evaluate import Reach, evaluate, reaches
from broker.access.globs import any_matches, matches, selects
from broker.access.model import Decision, Policy
from broker.errors import BrokerError
from broker.grants import check_names, validate
from broker.model import GrantRequest, Hop, RegisteredDatabase
from broker.registry.links import AccountLinks
from broker.registry.roles import is_role
from tollbridge.model import Product
from tollbridge.names import nearest
from tollbridge.reasons import Reason
from tollbridge.reports import ExplainStep, Explanation, RoleHop, RuleVerdict

Chain = Callable[[RegisteredDatabase, GrantRequest], tuple[Hop, ...]]
"""The AssumeRole calls for a request: the issuer's of the database's product. Raises BrokerError."""

FAILS_AT: Final = {
    Reach.NOTHING: "workloads",
    Reach.WORKLOAD: "db_labels",
    Reach.DATABASE: "db_users",
    Reach.DB_USER: "db_names",
    Reach.ALL: "",
}

_SIGNED: Final = "a token for {user} at {endpoint}, signed here, good for 15 minutes or what is left of the session"
_KEY: Final = "a derived SigV4 key of the role for {service} in {region}, until the session ends: no AWS secret"
_CREDENTIALS: Final[Mapping[Product, str]] = {
    Product.RDS: _SIGNED,
    Product.RDSPROXY: _SIGNED,
    Product.DSQL: _SIGNED,
    Product.ELASTICACHE: _SIGNED,
    Product.ELASTICACHE_SERVERLESS: _SIGNED,
    Product.MEMORYDB: _SIGNED,
    Product.REDSHIFT: "a password that redshift:GetClusterCredentials makes for {user}, good for up to an hour",
    Product.REDSHIFT_SERVERLESS: "a password that redshift-serverless:GetCredentials makes for the role, up to an hour",
    Product.DYNAMODB: _KEY.replace("{service}", "dynamodb"),
    Product.OPENSEARCH: _KEY.replace("{service}", "es"),
    Product.OPENSEARCH_SERVERLESS: _KEY.replace("{service}", "aoss"),
    Product.KEYSPACES: _KEY.replace("{service}", "cassandra"),
    Product.DOCDB: "one proof per login for the STS of {region}, signed by the broker: the proxy holds no key",
}
_AS_ROLE: Final = "a password that redshift:GetClusterCredentialsWithIAM makes for the role, good for up to an hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a broker knows when it is asked."""

    databases: Mapping[str, RegisteredDatabase]
    """By the names they are served under."""
    policy: Policy
    links: AccountLinks
    chain: Chain


class _Refused(Exception):
    """Ends the walk; its step is already told."""

    def __init__(self, reason: Reason, message: str, rule: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.rule = reason, message, rule


def explain(known: Known, asked: GrantRequest) -> Explanation:
    """Walk the way of a request: names, database, proxy row, rules, roles, credential."""
    walk = _Walk(known, asked)
    try:
        walk.take()
    except _Refused as refusal:
        return walk.explanation(refusal)
    return walk.explanation(None)


class _Walk:
    def __init__(self, known: Known, asked: GrantRequest) -> None:
        self.known, self.asked = known, asked
        self.database: RegisteredDatabase | None = None
        self.steps: list[ExplainStep] = []
        self.rules: tuple[RuleVerdict, ...] = ()
        self.hops: tuple[RoleHop, ...] = ()
        self.rule = self.credential = ""

    def take(self) -> None:
        asked = self.asked
        self._refusable("request", lambda: validate(asked))
        database = self.database = self._find()
        self._refusable("names", lambda: check_names(asked, database.facts))
        self._proxy(database)
        self._rules(database)
        self._roles(database)

    def explanation(self, refusal: _Refused | None) -> Explanation:
        return Explanation(
            allowed=refusal is None,
            reason=refusal.reason if refusal else None,
            message=refusal.message if refusal else "",
            rule=self.rule or (refusal.rule if refusal else ""),
            steps=tuple(self.steps),
            rules=self.rules,
            role_chain=self.hops,
            credential=self.credential,
            policy_version=self.known.policy.version,
            database=self.database.facts if self.database else None,
        )

    def _ok(self, step: str, detail: str) -> None:
        self.steps.append(ExplainStep(step=step, ok=True, detail=detail))

    def _fail(self, step: str, reason: Reason, message: str, rule: str = "") -> _Refused:
        self.steps.append(ExplainStep(step=step, ok=False, detail=message))
        return _Refused(reason, message, rule)

    def _refusable(self, step: str, check: Callable[[], None]) -> None:
        """Checks that say nothing when all is well are told of only when they fail."""
        try:
            check()
        except BrokerError as error:
            raise self._fail(step, error.reason, error.message) from error

    def _find(self) -> RegisteredDatabase:
        name = self.asked.database
        database = self.known.databases.get(name)
        if database is None:
            raise self._fail("database", Reason.DATABASE_UNKNOWN, unknown_database(name, self.known.databases))
        facts = database.facts
        where = f"account {facts.account_id}" if facts.account_id else "the broker's own account"
        labels = ", ".join(f"{key}={value}" for key, value in sorted(facts.labels.items())) or "none"
        self._ok(
            "database",
            f"{database.origin} {facts.product} at {facts.endpoint}, {where}, {facts.region}; labels: {labels}",
        )
        return database

    def _proxy(self, database: RegisteredDatabase) -> None:
        caller, workload = self.asked.caller, self.asked.workload
        rows = self.known.policy.proxies
        if caller == workload:
            serving = [
                row.caller
                for row in rows
                if any_matches(row.workloads, workload) and selects(row.db_labels, database.facts.labels)
            ]
            detail = f"asked by the workload itself; proxies that may ask for it: {', '.join(serving) or 'none'}"
            self._ok("proxy", detail)
            return
        decision = self._decide(database)
        if decision.reason in (Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD, Reason.PROXY_MAY_NOT_SERVE_DATABASE):
            raise self._fail("proxy", decision.reason, decision.message)
        row = next(row for row in rows if matches(row.caller, caller) and any_matches(row.workloads, workload))
        self._ok("proxy", f"{caller} may speak for it and serve this database: the proxies row of {row.caller}")

    def _rules(self, database: RegisteredDatabase) -> None:
        asked, facts = self.asked, database.facts
        self.rules = tuple(
            RuleVerdict(rule=rule.name, deny=rule.deny, matches=reach is Reach.ALL, fails_at=FAILS_AT[reach])
            for rule, reach in reaches(
                self.known.policy,
                workload=asked.workload,
                database=facts,
                db_user=asked.db_user,
                db_name=asked.db_name,
            )
        )
        decision = self._decide(database)
        self.rule = decision.rule
        if not decision.allowed:
            reason = decision.reason or Reason.DATABASE_NOT_ALLOWED
            raise self._fail("rules", reason, decision.message, decision.rule)
        self._ok("rules", f"rule {decision.rule!r} allows it, and no rule denies it")

    def _decide(self, database: RegisteredDatabase) -> Decision:
        asked = self.asked
        return evaluate(
            self.known.policy,
            caller=asked.caller,
            workload=asked.workload,
            database=database.facts,
            db_user=asked.db_user,
            db_name=asked.db_name,
        )

    def _roles(self, database: RegisteredDatabase) -> None:
        try:
            hops = self.known.chain(database, self.asked)
        except BrokerError as error:
            raise self._fail("roles", error.reason, error.message) from error
        self.hops = tuple(seen(database, hop, self.known.links) for hop in hops)
        for hop in self.hops:
            self._ok("role", as_line(hop))
        if not hops:
            self._ok("role", "none: the broker's own identity signs")
        facts = database.facts
        text = _CREDENTIALS[facts.product]
        if facts.product is Product.REDSHIFT and is_role(facts, self.asked.db_user):
            text = _AS_ROLE
        self.credential = text.format(user=self.asked.db_user, endpoint=facts.endpoint, region=facts.region)
        self._ok("credential", self.credential)


def seen(database: RegisteredDatabase, hop: Hop, links: AccountLinks) -> RoleHop:
    """A hop without its external ID, and with where that comes from."""
    source = ""
    if hop.external_id:
        link = links.find(hop.role_arn, database.origin)
        held = link is not None and link.external_id == hop.external_id
        source = f"account link {link.name}" if held and link else f"the {database.origin} database"
    return RoleHop(
        role_arn=hop.role_arn,
        session_name=hop.session_name,
        duration_seconds=hop.duration_seconds,
        external_id_set=bool(hop.external_id),
        external_id_from=source,
        tags=dict(hop.tags),
        narrowed=bool(hop.session_policy),
    )


def as_line(hop: RoleHop) -> str:
    """For people."""
    parts = [
        f"{hop.role_arn} as session {hop.session_name}",
        f"external ID set by {hop.external_id_from}" if hop.external_id_set else "external ID not set",
        f"up to {hop.duration_seconds} s",
    ]
    if hop.tags:
        parts.append("tags " + ", ".join(f"{key}={value}" for key, value in sorted(hop.tags.items())))
    if hop.narrowed:
        parts.append("narrowed to the database's own resources")
    return "; ".join(parts)


def unknown_database(name: str, known: Collection[str]) -> str:
    """No database of that name, and which may be meant."""
    near = nearest(name, known)
    hint = f": did you mean {near!r}?" if near else ""
    return f"no database named {name!r} is registered{hint}"
