"""Which roles lead to a database, and under which names. PURE."""

from __future__ import annotations

from broker.model import Attribution, GrantRequest, Hop, RegisteredDatabase
from broker.sessions.names import WORKLOAD_TAG, workload_session_name, workload_tag_value


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
