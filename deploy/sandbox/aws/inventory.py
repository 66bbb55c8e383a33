"""What is in the accounts, as AWS's describe and list calls tell it: databases of every product, their users and tags.

Signatures and policies are checked by ministack's code, shapes by botocore's models. What is there comes from the
sandbox and from tests (``/_sandbox/inventory``): members as in AWS's answers, and two of our own, ``_tags`` where a
service keeps tags apart and ``_arn`` where its answers hold none. Lists come in pages as AWS gives them.
"""

import base64
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from . import emulator, models, strict
from .calls import Call

Item = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One call."""

    iam: str
    """The action it needs."""
    items: str = ""
    """Member of the answer that holds the list, or the one thing asked for."""
    key: str = ""
    """Member of an item that names it."""
    by: str = ""
    """Parameter that asks for one by its name."""
    missing: str = ""
    """Code of AWS's answer when there is none."""
    page: str = "Marker"
    size: int = 100
    like: str = ""
    """The call whose items these are, where it is another."""
    kind: str = "list"
    """list, one, tags, modify or domains."""


ROWS: Mapping[tuple[str, str], Row] = {
    ("rds", "DescribeDBInstances"): Row(
        iam="rds:DescribeDBInstances",
        items="DBInstances",
        key="DBInstanceIdentifier",
        by="DBInstanceIdentifier",
        missing="DBInstanceNotFound",
    ),
    ("rds", "DescribeDBClusters"): Row(
        iam="rds:DescribeDBClusters",
        items="DBClusters",
        key="DBClusterIdentifier",
        by="DBClusterIdentifier",
        missing="DBClusterNotFoundFault",
    ),
    ("rds", "DescribeDBProxies"): Row(
        iam="rds:DescribeDBProxies",
        items="DBProxies",
        key="DBProxyName",
        by="DBProxyName",
        missing="DBProxyNotFoundFault",
    ),
    ("rds", "DescribeDBProxyEndpoints"): Row(
        iam="rds:DescribeDBProxyEndpoints",
        items="DBProxyEndpoints",
        key="DBProxyEndpointName",
        by="DBProxyEndpointName",
        missing="DBProxyEndpointNotFoundFault",
    ),
    ("rds", "ListTagsForResource"): Row(
        iam="rds:ListTagsForResource", items="TagList", by="ResourceName", missing="InvalidParameterValue", kind="tags"
    ),
    ("rds", "ModifyDBInstance"): Row(
        iam="rds:ModifyDBInstance",
        items="DBInstance",
        by="DBInstanceIdentifier",
        like="DescribeDBInstances",
        kind="modify",
    ),
    ("rds", "ModifyDBCluster"): Row(
        iam="rds:ModifyDBCluster", items="DBCluster", by="DBClusterIdentifier", like="DescribeDBClusters", kind="modify"
    ),
    ("elasticache", "DescribeReplicationGroups"): Row(
        iam="elasticache:DescribeReplicationGroups",
        items="ReplicationGroups",
        key="ReplicationGroupId",
        by="ReplicationGroupId",
        missing="ReplicationGroupNotFoundFault",
    ),
    ("elasticache", "DescribeCacheClusters"): Row(
        iam="elasticache:DescribeCacheClusters",
        items="CacheClusters",
        key="CacheClusterId",
        by="CacheClusterId",
        missing="CacheClusterNotFound",
    ),
    ("elasticache", "DescribeServerlessCaches"): Row(
        iam="elasticache:DescribeServerlessCaches",
        items="ServerlessCaches",
        key="ServerlessCacheName",
        by="ServerlessCacheName",
        missing="ServerlessCacheNotFoundFault",
        page="NextToken",
    ),
    ("elasticache", "DescribeUsers"): Row(
        iam="elasticache:DescribeUsers", items="Users", key="UserId", by="UserId", missing="UserNotFound"
    ),
    ("elasticache", "ListTagsForResource"): Row(
        iam="elasticache:ListTagsForResource", items="TagList", by="ResourceName", missing="InvalidARN", kind="tags"
    ),
    ("memorydb", "DescribeClusters"): Row(
        iam="memorydb:DescribeClusters",
        items="Clusters",
        key="Name",
        by="ClusterName",
        missing="ClusterNotFoundFault",
        page="NextToken",
    ),
    ("memorydb", "DescribeUsers"): Row(
        iam="memorydb:DescribeUsers",
        items="Users",
        key="Name",
        by="UserName",
        missing="UserNotFoundFault",
        page="NextToken",
    ),
    ("memorydb", "ListTags"): Row(
        iam="memorydb:ListTags", items="TagList", by="ResourceArn", missing="InvalidARNFault", kind="tags"
    ),
    ("redshift", "DescribeClusters"): Row(
        iam="redshift:DescribeClusters",
        items="Clusters",
        key="ClusterIdentifier",
        by="ClusterIdentifier",
        missing="ClusterNotFound",
    ),
    ("redshift-serverless", "ListWorkgroups"): Row(
        iam="redshift-serverless:ListWorkgroups", items="workgroups", key="workgroupName", page="nextToken"
    ),
    ("redshift-serverless", "GetWorkgroup"): Row(
        iam="redshift-serverless:GetWorkgroup",
        items="workgroup",
        key="workgroupName",
        by="workgroupName",
        missing="ResourceNotFoundException",
        like="ListWorkgroups",
        kind="one",
    ),
    ("redshift-serverless", "ListEndpointAccess"): Row(
        iam="redshift-serverless:ListEndpointAccess", items="endpoints", key="endpointName", page="nextToken"
    ),
    ("redshift-serverless", "GetEndpointAccess"): Row(
        iam="redshift-serverless:GetEndpointAccess",
        items="endpoint",
        key="endpointName",
        by="endpointName",
        missing="ResourceNotFoundException",
        like="ListEndpointAccess",
        kind="one",
    ),
    ("redshift-serverless", "ListTagsForResource"): Row(
        iam="redshift-serverless:ListTagsForResource",
        items="tags",
        by="resourceArn",
        missing="ResourceNotFoundException",
        kind="tags",
    ),
    ("es", "ListDomainNames"): Row(
        iam="es:ListDomainNames", items="DomainNames", key="DomainName", page="", like="DescribeDomains"
    ),
    ("es", "DescribeDomains"): Row(
        iam="es:DescribeDomains", items="DomainStatusList", key="DomainName", by="DomainNames", kind="domains"
    ),
    ("es", "ListTags"): Row(iam="es:ListTags", items="TagList", by="ARN", missing="ValidationException", kind="tags"),
}

_REST = (
    ("GET", re.compile(r"/2021-01-01/domain"), "ListDomainNames"),
    ("POST", re.compile(r"/2021-01-01/opensearch/domain-info"), "DescribeDomains"),
    ("GET", re.compile(r"/2021-01-01/tags/?"), "ListTags"),
)
_MODELS = {"es": "opensearch"}


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.refusal = strict.Refusal(status=status, code=code, message=message)


class Inventory:
    """The accounts' contents."""

    def __init__(self, resources: list[dict[str, Any]]) -> None:
        self._items: dict[tuple[str, str, str, str], list[Item]] = {}
        self.put(resources)

    def control(self, what: str, arguments: dict[str, Any]) -> None:
        """``put`` or ``remove``, as ordered over HTTP. Raises ValueError."""
        try:
            if what == "put":
                self.put(arguments["resources"])
            elif what == "remove":
                self.remove(**arguments)
            else:
                raise ValueError(f"no such order: {what}")
        except (KeyError, TypeError) as error:
            raise ValueError(f"not understood: {error!r}") from error

    def put(self, resources: list[dict[str, Any]]) -> None:
        """More of them; one of the same name is replaced. Raises ValueError for a call that lists nothing."""
        index: dict[tuple[str, str, str, str], dict[str, int]] = {}
        for resource in resources:
            place = _place(resource)
            row = ROWS.get(place[2:])
            if row is None or not row.key:
                raise ValueError(f"{place[2]}:{place[3]} lists nothing here")
            items = self._items.setdefault(place, [])
            if place not in index:
                index[place] = {str(item.get(row.key)): at for at, item in enumerate(items)}
            name = str(resource["item"].get(row.key))
            at = index[place].setdefault(name, len(items))
            items[at : at + 1] = [resource["item"]]

    def remove(self, account_id: str, region: str, service: str, operation: str) -> None:
        """Everything that this call would list there."""
        self._items.pop((account_id, region, service, operation), None)

    def named(self, call: Call, method: str, path: str) -> Call:
        """The call, with service and action where only its path tells them."""
        if call.signed_service == "es":
            for verb, pattern, action in _REST:
                if method == verb and pattern.fullmatch(path):
                    return replace(call, service="es", action=action, is_json=True)
        return call

    def serves(self, call: Call) -> bool:
        """Whether the call is answered here and not by ministack."""
        return (call.service or "", call.action or "") in ROWS

    def answer(
        self, call: Call, *, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        caller = emulator.authenticate(
            method=method, path=path, query=query, headers=headers, body=body, is_json=call.is_json
        )
        if isinstance(caller, strict.Refusal):
            return refused(call, caller)
        operation = models.operation(_MODELS.get(str(call.service), str(call.service)), call.action)
        try:
            given = _given(call, operation, query, body)
            found = self._found(caller, call, given)
        except models.BadInput as error:
            return refused(call, strict.Refusal(status=400, code="ValidationException", message=str(error)))
        except _Refused as error:
            return refused(call, error.refusal)
        shaped = models.shaped(operation.output_shape, found)
        if call.is_json:
            return 200, "application/x-amz-json-1.1", json.dumps(shaped).encode()
        return 200, "text/xml", models.render_query(operation, shaped, str(uuid.uuid4()))

    def _found(self, caller: emulator.Caller, call: Call, given: models.Values) -> models.Values:
        service, action = str(call.service), str(call.action)
        row = ROWS[service, action]
        items = self._items.get((caller.account_id, caller.region, service, row.like or action), [])
        wanted = given.get(row.by) if row.by else None
        if row.kind == "tags":
            return self._tags(caller, row, str(wanted))
        key = row.key or ROWS[service, row.like].key
        _must(
            caller, row.iam, _arn_of(items, key, wanted) or f"arn:aws:{service}:{caller.region}:{caller.account_id}:*"
        )
        if row.kind == "domains":
            return {row.items: [item for item in items if item.get(key) in (wanted or [])]}
        if wanted is None:
            return _page(items, row, given)
        chosen = [item for item in items if item.get(key) == wanted]
        if not chosen:
            missing = row.missing or ROWS[service, row.like].missing
            raise _Refused(404, missing, f"{wanted} not found.")
        if row.kind == "modify":
            if "EnableIAMDatabaseAuthentication" in given:
                chosen[0]["IAMDatabaseAuthenticationEnabled"] = given["EnableIAMDatabaseAuthentication"]
            return {row.items: chosen[0]}
        return {row.items: chosen[0] if row.kind == "one" else chosen}

    def _tags(self, caller: emulator.Caller, row: Row, arn: str) -> models.Values:
        _must(caller, row.iam, arn)
        service = row.iam.partition(":")[0]
        for (account_id, region, held_by, _), items in self._items.items():
            if (account_id, region, held_by) != (caller.account_id, caller.region, service):
                continue
            for item in items:
                if arn in item.values():
                    pairs = item.get("_tags", {}).items()
                    small = row.items == "tags"
                    return {
                        row.items: [
                            {"key" if small else "Key": name, "value" if small else "Value": text}
                            for name, text in pairs
                        ]
                    }
        raise _Refused(404, row.missing, f"{arn} not found.")


def refused(call: Call, refusal: strict.Refusal) -> tuple[int, str, bytes]:
    """A refusal in the protocol of the call."""
    return refusal.status, *strict.render(refusal, is_json=call.is_json, request_id=str(uuid.uuid4()))


def _given(call: Call, operation: models.OperationModel, query: str, body: bytes) -> models.Values:
    if call.service == "es":
        asked = dict(parse_qsl(query))
        return {"ARN": asked["arn"]} if "arn" in asked else models.parse_json(operation, body)
    return models.parse_json(operation, body) if call.is_json else models.parse_query(operation, call.parameters)


def _page(items: list[Item], row: Row, given: models.Values) -> models.Values:
    start = 0
    if row.page and (token := given.get(row.page)):
        try:
            start = int(base64.b64decode(str(token), validate=True))
        except ValueError as error:
            raise _Refused(400, "InvalidParameterValue", "The page token is invalid.") from error
    size = min(int(given.get("MaxRecords") or given.get("MaxResults") or given.get("maxResults") or row.size), row.size)
    end = start + size if row.page else len(items)
    answer: models.Values = {row.items: items[start:end]}
    if end < len(items):
        answer[row.page] = base64.b64encode(str(end).encode()).decode()
    return answer


def _arn_of(items: list[Item], key: str, name: object) -> str:
    for item in items:
        if item.get(key) == name:
            return str(item.get("_arn") or next((v for v in item.values() if str(v).startswith("arn:aws:")), ""))
    return ""


def _must(caller: emulator.Caller, action: str, resource_arn: str) -> None:
    refusal = emulator.policy_refusal(
        caller.access_key_id,
        account_id=caller.account_id,
        region=caller.region,
        action=action,
        resource_arns=[resource_arn],
    )
    if refusal is not None:
        query = action.partition(":")[0] in ("rds", "elasticache", "redshift")
        message = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource_arn}"
        raise _Refused(*((403, "AccessDenied") if query else (400, "AccessDeniedException")), message)


def _place(resource: Mapping[str, Any]) -> tuple[str, str, str, str]:
    place = tuple(str(resource[name]) for name in ("account_id", "region", "service", "operation"))
    return place[0], place[1], place[2], place[3]
