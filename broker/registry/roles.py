"""A db_user that is an IAM role: which role it names, and which spellings name the same. PURE."""

from __future__ import annotations

import re
from typing import Final

from broker.registry.arns import ParsedRole, parse_role_arn, partition_of_region
from broker.registry.products import ROLE_IS_USER
from tollbridge.model import Database, Product

_NAME: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_PREFIX: Final = "role/"
_ARN: Final = "arn:"


def is_role(database: Database, db_user: str) -> bool:
    """Whether this db_user of this database is meant as a role.

    Redshift has both: there a name alone is a database user, and a role is written `role/NAME` or as its ARN.
    """
    if database.product in ROLE_IS_USER:
        return True
    return database.product is Product.REDSHIFT and db_user.startswith((_PREFIX, _ARN))


def parse_role(db_user: str, *, partition: str, account_id: str) -> ParsedRole:
    """The role that a name, `role/[PATH/]NAME` or an ARN stands for. Raises ValueError with what is wrong with it.

    Partition and account are the database's, for whoever leaves them out; an ARN may name others.
    """
    if db_user.startswith(_ARN):
        return parse_role_arn(db_user)
    if not db_user.startswith(_PREFIX) and not _NAME.fullmatch(db_user):
        raise ValueError("it is neither the name of an IAM role nor role/NAME nor the ARN of one")
    if not account_id:
        raise ValueError("the account it belongs to is not known: write the whole ARN, or set aws.account_id")
    return parse_role_arn(f"arn:{partition}:iam::{account_id}:{_PREFIX}{db_user.removeprefix(_PREFIX)}")


def spellings(database: Database, db_user: str, *, any_account: bool = False) -> frozenset[str]:
    """Every way to write the same user, so that a rule about one is a rule about all.

    An ARN is the same as a name only in the database's own account, and a path makes another role. `any_account` is
    for rules that deny: it takes an ARN of any account for the name, and a name for the role under any path, since an
    account has no second role of that name and the database shows none of the path.
    """
    if not is_role(database, db_user):
        return frozenset({db_user})
    own = database.account_id
    try:
        role = parse_role(db_user, partition="aws", account_id=own or "000000000000")
    except ValueError:
        return frozenset({db_user})
    if db_user.startswith(_ARN) and role.account_id != own and not any_account:
        return frozenset({db_user})
    found = {db_user, f"{_PREFIX}{role.path[1:]}{role.name}"}
    if (role.path == "/" or any_account) and database.product in ROLE_IS_USER:
        found.add(role.name)
    if own and not db_user.startswith(_ARN):
        found.add(f"arn:{_partition(database)}:iam::{own}:{_PREFIX}{role.path[1:]}{role.name}")
    return frozenset(found)


def _partition(database: Database) -> str:
    return partition_of_region(database.region) or "aws"
