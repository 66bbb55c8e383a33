"""Which roles lead to a database, and under which names. PURE."""

from __future__ import annotations

from typing import Final

from broker.errors import BrokerError
from broker.model import Attribution, GrantRequest, Hop, RegisteredDatabase
from broker.registry.arns import ParsedRole
from broker.registry.roles import parse_role
from broker.sessions.names import WORKLOAD_TAG, workload_session_name, workload_tag_value
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

ROLE_SECONDS: Final = 3600
"""Sessions of roles that are users: AWS's limit for a role that a role assumed, which is the usual case."""


def role_hops(database: RegisteredDatabase, request: GrantRequest, *, broker_name: str) -> tuple[Hop, ...]:
    """The hops to the role that the db_user is: through the database's account role where one is configured.

    The first is shared by all workloads; the last is each workload's own, named after it, so that CloudTrail shows who
    entered as that role. Session tags go to the last, which is whom the service sees; the external ID to the first
    hop, whichever role that is. Raises BrokerError when the db_user is no role that this database can have.
    """
    access = database.access
    role = _role_of(database, request.db_user)
    through = access.role_arn if access.role_arn != role.arn else ""
    tags = access.session_tags
    if database.attribution is Attribution.WORKLOAD:
        tags = (*tags, (WORKLOAD_TAG, workload_tag_value(request.workload)))
    last = Hop(
        role_arn=role.arn,
        session_name=workload_session_name(request.workload),
        duration_seconds=min(access.session_duration_seconds, ROLE_SECONDS),
        external_id=Secret("") if through else access.external_id,
        tags=tags,
        session_policy=database.session_policy,
    )
    if not through:
        return (last,)
    first = Hop(
        role_arn=through,
        session_name=broker_name,
        duration_seconds=access.session_duration_seconds,
        external_id=access.external_id,
    )
    return (first, last)


def _role_of(database: RegisteredDatabase, db_user: str) -> ParsedRole:
    facts, partition = database.facts, database.access.partition
    metadata = {"field": "db_user", "database": database.name}
    try:
        role = parse_role(db_user, partition=partition, account_id=facts.account_id)
    except ValueError as error:
        raise BrokerError(
            Reason.INVALID_REQUEST, f"db_user {db_user!r} of {database.name!r}: {error}", metadata=metadata
        ) from error
    if role.partition != partition:
        raise BrokerError(
            Reason.PARTITION_MISMATCH,
            f"db_user {role.arn} is in AWS partition {role.partition!r}, database {database.name!r} in {partition!r}",
            metadata=metadata,
        )
    if facts.account_id and role.account_id != facts.account_id:
        raise BrokerError(
            Reason.ACCOUNT_MISMATCH,
            f"db_user {role.arn} is a role of account {role.account_id}, database {database.name!r} is in account"
            f" {facts.account_id}: log in as a role of that account",
            metadata=metadata | {"account": facts.account_id},
        )
    return role


def account_hops(database: RegisteredDatabase, request: GrantRequest, *, broker_name: str) -> tuple[Hop, ...]:
    """The hop into the database's account: none where that is the broker's own.

    It is shared by all workloads under the broker's name, unless the database asks for attribution: then each workload
    has a session of its own, named and tagged after it. The external ID goes to the first hop, which this one is.
    """
    access = database.access
    if not access.role_arn:
        return ()
    name, tags = broker_name, access.session_tags
    if database.attribution is Attribution.WORKLOAD:
        name = workload_session_name(request.workload)
        tags = (*tags, (WORKLOAD_TAG, workload_tag_value(request.workload)))
    return (
        Hop(
            role_arn=access.role_arn,
            session_name=name,
            duration_seconds=access.session_duration_seconds,
            external_id=access.external_id,
            tags=tags,
        ),
    )
