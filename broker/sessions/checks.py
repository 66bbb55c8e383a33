"""What must be true of a session before anything is signed with it. PURE."""

from __future__ import annotations

from broker.errors import BrokerError
from broker.model import AccountSession, RegisteredDatabase
from tollbridge.reasons import Reason

_ARN_PARTS = 6


def partition_of(arn: str) -> str:
    """`aws`, `aws-cn`, ...; empty when it is no ARN."""
    return _part(arn, 1)


def account_of(arn: str) -> str:
    """The account in an ARN; empty when it is no ARN."""
    return _part(arn, 4)


def check_partition(base_arn: str, arn_or_partition: str) -> None:
    """Raise PARTITION_MISMATCH unless a role (or partition) lies where the broker's own identity does.

    Checked before the call: STS does not cross partitions, and its own answer names another cause.
    """
    own = partition_of(base_arn)
    wanted = partition_of(arn_or_partition) or arn_or_partition
    if not own or own == wanted:
        return
    what = f"role {arn_or_partition}" if partition_of(arn_or_partition) else "the database"
    raise BrokerError(
        Reason.PARTITION_MISMATCH,
        f"{what} is in AWS partition {wanted!r}, but the broker's identity {base_arn} is in {own!r}: STS does not cross"
        f" partitions. Run a broker with an identity in {wanted!r}, or correct assume_role_arn.",
        metadata={"partition": wanted, "broker_partition": own},
    )


def check_account(database: RegisteredDatabase, role_arn: str, session: AccountSession) -> None:
    """Raise ACCOUNT_MISMATCH unless the session is in the database's account.

    `role_arn` is the role assumed last, empty when none was: then the session is the broker's own identity.
    """
    expected = database.facts.account_id
    if not expected or session.account_id == expected:
        return
    metadata = {"account": expected, "session_account": session.account_id, "database": database.name}
    if role_arn:
        raise BrokerError(
            Reason.ACCOUNT_MISMATCH,
            f"role {role_arn} leads to account {session.account_id}, but database {database.name!r} is registered in"
            f" account {expected}. Set assume_role_arn to a role of account {expected}, or correct account_id.",
            metadata=metadata | {"role": role_arn},
        )
    raise BrokerError(
        Reason.ACCOUNT_MISMATCH,
        f"database {database.name!r} is in account {expected}, but the broker's own identity {session.arn} is in"
        f" account {session.account_id}. Set assume_role_arn to a role of account {expected} that trusts it.",
        metadata=metadata,
    )


def check_own_account(database: RegisteredDatabase, role_arn: str, base: AccountSession) -> None:
    """Raise ACCOUNT_MISMATCH unless a role named by a login is in the broker's own account, where the database is.

    For databases registered without an account: their users must not lead the broker into any account that trusts it.
    """
    if account_of(role_arn) == base.account_id:
        return
    raise BrokerError(
        Reason.ACCOUNT_MISMATCH,
        f"db_user {role_arn} is not a role of account {base.account_id}, the broker's own, where database"
        f" {database.name!r} is registered: log in as a role of that account, or set aws.account_id",
        metadata={"role": role_arn, "account": base.account_id, "database": database.name},
    )


def _part(arn: str, index: int) -> str:
    parts = arn.split(":", _ARN_PARTS - 1)
    return parts[index] if len(parts) == _ARN_PARTS and parts[0] == "arn" else ""
