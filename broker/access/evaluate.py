"""The decision: may this caller, for this workload, enter this database as this user? PURE.

Proxy rows first: a caller that speaks for somebody else must have a row that lists the workload and the database.
Then rules: a deny that matches beats everything; one allow that matches suffices; no rule means no. A refusal names the
condition that failed last on the rule that came closest, and what to change.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from broker.access.globs import any_matches, matches, selects
from broker.access.model import Decision, Policy, ProxyRow, Rule
from broker.registry.products import MAY_FOLD_CASE
from broker.registry.roles import spellings
from tollbridge.model import Database, Protocol
from tollbridge.reasons import Reason

SHOWS_DB_NAME: Final = frozenset({Protocol.POSTGRES, Protocol.MONGODB})
"""Protocols on which a session cannot leave its db_name unseen: PostgreSQL (with Redshift, DSQL) binds it at login,
MongoDB names it in each message. Everywhere else a rule's db_names could not be held."""


class Reach(IntEnum):
    """How far a rule's conditions go towards a request: past which of them."""

    NOTHING = 0
    WORKLOAD = 1
    DATABASE = 2
    DB_USER = 3
    ALL = 4


def evaluate(policy: Policy, *, caller: str, workload: str, database: Database, db_user: str, db_name: str) -> Decision:
    """Decide one request. `caller` is authenticated; the rest is what it asks for."""
    if caller != workload and (refusal := _refuse_proxy(policy, caller, workload, database)):
        return refusal

    reach = _reaching(workload, database, db_user, db_name)
    for rule in policy.rules:
        if rule.deny and reach(rule) is Reach.ALL:
            message = f"rule {rule.name!r} denies {workload} database {database.name!r} as {db_user!r}"
            return Decision(allowed=False, rule=rule.name, reason=Reason.DENIED_BY_RULE, message=message)
    allows = [rule for rule in policy.rules if not rule.deny]
    closest = max(allows, key=reach, default=None)
    if closest is None or (got := reach(closest)) <= Reach.WORKLOAD:
        return _no_database(workload, database, closest if closest and reach(closest) else None)
    if got is Reach.ALL:
        return Decision(allowed=True, rule=closest.name)
    if got is Reach.DATABASE:
        message = f"{workload} may enter {database.name!r}, but not as {db_user!r}: rule {closest.name!r} allows "
        message += f"{_listed(closest.db_users)}; add {db_user!r} to its db_users"
        return Decision(allowed=False, reason=Reason.DB_USER_NOT_ALLOWED, message=message)
    message = f"{workload} may enter {database.name!r} as {db_user!r}, but not its database {db_name!r}: rule "
    message += f"{closest.name!r} allows {_listed(closest.db_names)}; add {db_name!r} to its db_names"
    return Decision(allowed=False, reason=Reason.DB_NAME_NOT_ALLOWED, message=message)


def reaches(
    policy: Policy, *, workload: str, database: Database, db_user: str, db_name: str
) -> tuple[tuple[Rule, Reach], ...]:
    """How far each rule goes towards a request, in their order: why `evaluate` says what it says."""
    reach = _reaching(workload, database, db_user, db_name)
    return tuple((rule, reach(rule)) for rule in policy.rules)


def may_see(policy: Policy, caller: str, database: Database) -> bool:
    """Whether a caller's catalog lists the database: its proxy row serves it, or a rule lets the caller itself in."""
    if any(matches(row.caller, caller) and selects(row.db_labels, database.labels) for row in policy.proxies):
        return True
    mine = [
        rule
        for rule in policy.rules
        if any_matches(rule.workloads, caller) and selects(rule.db_labels, database.labels)
    ]
    if any(rule.deny and _denies_whole(rule, database) for rule in mine):
        return False
    return any(not rule.deny for rule in mine)


def _reaching(workload: str, database: Database, db_user: str, db_name: str) -> Callable[[Rule], Reach]:
    # Where users are roles, a rule about one spelling is a rule about the role.
    users = spellings(database, db_user)
    denied_users = spellings(database, db_user, any_account=True)
    return lambda rule: _reach(rule, workload, database, denied_users if rule.deny else users, db_name)


def _reach(rule: Rule, workload: str, database: Database, users: frozenset[str], db_name: str) -> Reach:
    if not any_matches(rule.workloads, workload):
        return Reach.NOTHING
    if not selects(rule.db_labels, database.labels):
        return Reach.WORKLOAD
    if not any(_names(rule, database, rule.db_users, user) for user in users):
        return Reach.DATABASE
    if not _holds_db_name(rule, database, db_name):
        return Reach.DB_USER
    return Reach.ALL


def _holds_db_name(rule: Rule, database: Database, db_name: str) -> bool:
    if "*" in rule.db_names:
        return True
    if database.protocol not in SHOWS_DB_NAME:
        # Such a pair does not load. Should it come about later (a dynamic database), neither kind of rule may open
        # a door: an allow that cannot be held does not match, a deny that cannot be held does.
        return rule.deny
    if database.protocol is Protocol.MONGODB and not db_name:
        # A login enters no logical database: each message names one, and is asked about.
        return bool(rule.db_names) and not rule.deny
    return _names(rule, database, rule.db_names, db_name)


def _names(rule: Rule, database: Database, patterns: tuple[str, ...], name: str) -> bool:
    if any_matches(patterns, name):
        return True
    if not (rule.deny and database.product in MAY_FOLD_CASE):
        return False
    return any_matches(tuple(pattern.lower() for pattern in patterns), name.lower())


def _denies_whole(rule: Rule, database: Database) -> bool:
    return "*" in rule.db_users and ("*" in rule.db_names or database.protocol not in SHOWS_DB_NAME)


def _refuse_proxy(policy: Policy, caller: str, workload: str, database: Database) -> Decision | None:
    rows = [row for row in policy.proxies if matches(row.caller, caller)]
    speaking = [row for row in rows if any_matches(row.workloads, workload)]
    if not speaking:
        fix = f"add it to workloads of {_row_name(rows[0])}" if rows else f"add a proxies row for caller {caller}"
        message = f"{caller} may not speak for {workload}: {fix}"
        return Decision(allowed=False, reason=Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD, message=message)
    if not any(selects(row.db_labels, database.labels) for row in speaking):
        message = f"{caller} may not serve database {database.name!r} ({_labels(database)}): widen db_labels of "
        message += _row_name(speaking[0])
        return Decision(allowed=False, reason=Reason.PROXY_MAY_NOT_SERVE_DATABASE, message=message)
    return None


def _no_database(workload: str, database: Database, closest: Rule | None) -> Decision:
    message = f"no rule lets {workload} enter database {database.name!r} ({_labels(database)})"
    if closest is None:
        message += ": no rule names this workload; add one, or add it to a rule's workloads"
    else:
        wanted = ", ".join(f"{key}={'|'.join(values)}" for key, values in closest.db_labels.items()) or "nothing"
        message += f": rule {closest.name!r} names the workload but selects {wanted}"
    return Decision(allowed=False, reason=Reason.DATABASE_NOT_ALLOWED, message=message)


def _row_name(row: ProxyRow) -> str:
    return f"the proxies row of {row.caller}"


def _labels(database: Database) -> str:
    return (
        "labels " + ", ".join(f"{key}={value}" for key, value in sorted(database.labels.items()))
        if (database.labels)
        else "no labels"
    )


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(repr(value) for value in values) or "nobody"
