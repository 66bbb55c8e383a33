"""Redshift's calls that hand out temporary database users, which no emulator has: provisioned and serverless.

Signature and policy are checked by ministack's code, shapes by botocore's models; ``temporary_users`` makes the user
in the database. Checked: redshift:GetClusterCredentials on dbuser and dbname, CreateClusterUser on dbuser,
JoinGroup on dbgroup, GetClusterCredentialsWithIAM on dbname, redshift-serverless:GetCredentials on the workgroup.
Groups are checked and not joined.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from . import emulator, models
from .calls import Call
from .strict import Refusal
from .temporary_users import TemporaryUsers, User

SERVICES = frozenset({"redshift", "redshift-serverless"})
MIN_DURATION_SECONDS, MAX_DURATION_SECONDS = 900, 3600
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+.@-]{0,63}")
_PREFIX_OF_ISSUED = re.compile(r"IAM[AR]?:", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warehouse:
    """A cluster or workgroup, and the database server that plays it."""

    product: str
    identifier: str
    """ClusterIdentifier or workgroup name."""
    resource_id: str
    account_id: str
    region: str
    hostname: str
    port: int
    directory: str
    """Of the server's unix socket."""

    @property
    def prefix(self) -> str:
        """Of every ARN of it."""
        return f"arn:aws:{self.product}:{self.region}:{self.account_id}"


class Refused(Exception):
    """The call is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.refusal = Refusal(status=status, code=code, message=message)


class Redshift:
    """Both services' endpoint."""

    def __init__(self, warehouses: list[Warehouse], psql: str) -> None:
        self._warehouses = warehouses
        self.users = TemporaryUsers({warehouse.directory for warehouse in warehouses}, psql)

    async def answer(
        self, call: Call, *, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, bytes] | Refusal:
        """Content type and body, or the refusal."""
        try:
            caller = emulator.authenticate(
                method=method, path=path, query=query, headers=headers, body=body, is_json=call.is_json
            )
            if isinstance(caller, Refusal):
                return caller
            return await self._answer(caller, call, body)
        except Refused as refused:
            return refused.refusal

    async def _answer(self, caller: emulator.Caller, call: Call, body: bytes) -> tuple[str, bytes]:
        try:
            operation = models.operation(str(call.service), call.action)
            given = (
                models.parse_json(operation, body) if call.is_json else models.parse_query(operation, call.parameters)
            )
        except models.UnknownOperation as error:
            raise Refused(400, "InvalidAction", f"{error} is no operation of {call.service}") from error
        except models.BadInput as error:
            raise Refused(
                400, "ValidationException" if call.is_json else "InvalidParameterValue", str(error)
            ) from error
        match operation.name:
            case "GetClusterCredentials":
                answer = await self._by_name(caller, given)
            case "GetClusterCredentialsWithIAM":
                answer = await self._by_identity(caller, given)
            case "GetCredentials":
                answer = await self._serverless(caller, given)
            case name:
                raise Refused(400, "UnsupportedOperation", f"the sandbox's Redshift has no {name}")
        if call.is_json:
            return "application/x-amz-json-1.1", models.render_json(operation, answer)
        return "text/xml", models.render_query(operation, answer, str(uuid.uuid4()))

    async def _by_name(self, caller: emulator.Caller, given: models.Values) -> models.Values:
        cluster, db_user = str(given.get("ClusterIdentifier")), str(given["DbUser"])
        if not _NAME.fullmatch(db_user) or _PREFIX_OF_ISSUED.match(db_user) or db_user.upper() == "PUBLIC":
            raise Refused(400, "InvalidParameterValue", f"{db_user!r} is no valid DbUser")
        prefix = f"arn:aws:redshift:{caller.region}:{caller.account_id}"
        needed = [f"{prefix}:dbuser:{cluster}/{db_user}"]
        if "DbName" in given:
            needed.append(f"{prefix}:dbname:{cluster}/{given['DbName']}")
        _must(caller, "redshift:GetClusterCredentials", needed)
        if given.get("AutoCreate"):
            _must(caller, "redshift:CreateClusterUser", needed[:1])
        _must(
            caller, "redshift:JoinGroup", [f"{prefix}:dbgroup:{cluster}/{group}" for group in given.get("DbGroups", [])]
        )
        warehouse = self._cluster(caller, cluster)
        auto = bool(given.get("AutoCreate"))
        user = User(name=f"{'IAMA' if auto else 'IAM'}:{db_user}", acts_as=db_user, create=auto)
        return await self._issue(warehouse, user, _duration(given.get("DurationSeconds"), "InvalidParameterValue"))

    async def _by_identity(self, caller: emulator.Caller, given: models.Values) -> models.Values:
        cluster = str(given.get("ClusterIdentifier"))
        prefix = f"arn:aws:redshift:{caller.region}:{caller.account_id}"
        _must(
            caller, "redshift:GetClusterCredentialsWithIAM", [f"{prefix}:dbname:{cluster}/{given.get('DbName', '*')}"]
        )
        warehouse = self._cluster(caller, cluster)
        seconds = _duration(given.get("DurationSeconds"), "InvalidParameterValue")
        return await self._issue(warehouse, User(name=_database_user(caller)), seconds)

    async def _serverless(self, caller: emulator.Caller, given: models.Values) -> models.Values:
        name = given.get("workgroupName")
        found = [w for w in self._of(caller, "redshift-serverless") if w.identifier == name]
        resource_id = found[0].resource_id if found else "*"
        prefix = f"arn:aws:redshift-serverless:{caller.region}:{caller.account_id}"
        _must(caller, "redshift-serverless:GetCredentials", [f"{prefix}:workgroup/{resource_id}"])
        if not found:
            raise Refused(400, "ResourceNotFoundException", f"Workgroup {name} not found.")
        seconds = _duration(given.get("durationSeconds"), "ValidationException")
        issued = await self._issue(found[0], User(name=_database_user(caller)), seconds)
        return {f"{key[0].lower()}{key[1:]}": value for key, value in issued.items()}

    def _of(self, caller: emulator.Caller, product: str) -> list[Warehouse]:
        mine = (product, caller.account_id, caller.region)
        return [w for w in self._warehouses if (w.product, w.account_id, w.region) == mine]

    def _cluster(self, caller: emulator.Caller, identifier: str) -> Warehouse:
        for warehouse in self._of(caller, "redshift"):
            if warehouse.identifier == identifier:
                return warehouse
        raise Refused(404, "ClusterNotFound", f"Cluster {identifier} not found.")

    async def _issue(self, warehouse: Warehouse, user: User, seconds: int) -> dict[str, Any]:
        expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        password = await self.users.issue(warehouse.directory, user, expires_at)
        emulator.remember_secret(password)
        # What serverless and WithIAM say on top; the other call's model leaves it out.
        return {
            "DbUser": user.name,
            "DbPassword": password,
            "Expiration": expires_at,
            "NextRefreshTime": expires_at - timedelta(seconds=seconds / 2),
        }


def _must(caller: emulator.Caller, action: str, resource_arns: list[str]) -> None:
    """Raises Refused unless the caller's policies allow it on each of them."""
    for arn in resource_arns:
        refusal = emulator.policy_refusal(
            caller.access_key_id,
            account_id=caller.account_id,
            region=caller.region,
            action=action,
            resource_arns=[arn],
        )
        if refusal is not None:
            message = f"User: {caller.arn} is not authorized to perform: {action} on resource: {arn}"
            json = action.startswith("redshift-serverless:")
            raise Refused(*((400, "AccessDeniedException") if json else (403, "AccessDenied")), message)


def _database_user(caller: emulator.Caller) -> str:
    """Who an identity is inside the database: IAMR:role, or IAM:user."""
    what, _, rest = caller.arn.rpartition(":")[2].partition("/")
    return f"IAMR:{rest.partition('/')[0]}" if what == "assumed-role" else f"IAM:{rest.rpartition('/')[2]}"


def _duration(seconds: int | None, code: str) -> int:
    if seconds is None:
        return MIN_DURATION_SECONDS
    if not MIN_DURATION_SECONDS <= seconds <= MAX_DURATION_SECONDS:
        text = f"between {MIN_DURATION_SECONDS} and {MAX_DURATION_SECONDS} seconds"
        raise Refused(400, code, f"Token duration must be {text}")
    return seconds
