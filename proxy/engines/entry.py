"""Entering a database: permission, a login, and one more of both when the credential was rejected. PURE.

What every engine does alike; how a login goes and what a rejection looks like is the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from proxy.errors import Refused
from proxy.model import SealedGrant
from proxy.script import Script, request_grant

T = TypeVar("T")
Rejection = TypeVar("Rejection", bound=Refused)


def enter(
    log_in: Callable[[SealedGrant], Script[T]],
    *,
    workload: str,
    database: str,
    db_user: str,
    db_name: str,
    rejection: type[Rejection],
    still_rejected: Callable[[Rejection, SealedGrant], Refused],
    log_in_again: Callable[[SealedGrant], Script[T]] | None = None,
) -> Script[T]:
    """From the question whether this workload may enter to what `log_in` returns. Raises Refused.

    `log_in` raises `rejection` when the server was shown the credential and did not take it. That may only mean that
    the session behind a shared one died: the broker is told and asked once more, and the login repeated once, by
    `log_in_again` where the second differs from the first. Another rejection becomes `still_rejected` of the fresh
    grant. A `db_name` is empty where sessions change it at will.
    """
    grant = yield from request_grant(workload=workload, database=database, db_user=db_user, db_name=db_name)
    try:
        return (yield from log_in(grant))
    except rejection:
        fresh = yield from request_grant(
            workload=workload, database=database, db_user=db_user, db_name=db_name, rejected=grant.credential_id
        )
    try:
        return (yield from (log_in_again or log_in)(fresh))
    except rejection as error:
        raise still_rejected(error, fresh) from error
