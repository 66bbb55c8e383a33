"""Which host of DynamoDB a request is for: by the prefix of its X-Amz-Target. PURE.

https://docs.aws.amazon.com/general/latest/gr/ddb.html: the tables' host and the streams' host of a region belong
together, in each of the forms that AWS has for them.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import Refused
from proxy.http.heads import RequestHead
from proxy.http.model import Plan
from proxy.http.target import Target, tidy
from tollbridge.reasons import Reason

TABLES: Final = "DynamoDB_20120810"
STREAMS: Final = "DynamoDBStreams_20120810"

_OPERATION: Final = re.compile(r"([A-Za-z]{1,32}_[0-9]{8})\.([A-Za-z]{1,64})", re.ASCII).fullmatch
_ROOT: Final = Target(b"/", b"/", b"", b"/", b"")

# Name of the tables' host -> of the streams' host; the rest of the name, and an account before it, stay as they are.
# Where hosts have both stacks (api.aws, api.amazonwebservices...) the streams' label is one, elsewhere two.
_HOST: Final = re.compile(
    r"(?:(?P<account>[0-9]{12})\.(?P<of_account>(?:streams-|search-)?ddb(?:-fips)?)"
    r"|(?P<label>(?:streams[.-]|search-)?dynamodb(?:-fips)?))"
    r"\.(?P<rest>[a-z]{2,}(?:-[a-z]+)+-[0-9]+\.(?P<suffix>[a-z0-9.-]+))",
    re.ASCII,
).fullmatch
_DUAL_STACK: Final = ("api.aws", "api.amazonwebservices.")
_GOV: Final = "us-gov-"

_PLANS_LIMIT: Final = 512
"""Plans kept in mind: operations times endpoints."""
_SEARCHES: Final = frozenset({"SearchVectors"})
_READS: Final = ("Get", "BatchGet", "Query", "Scan", "List", "Describe", "TransactGet", "Search")

_plans: dict[tuple[bytes, str], Plan] = {}


def plan(head: RequestHead, endpoint_host: str) -> Plan:
    """Where a request goes. Raises Refused."""
    if head.target != b"/" or head.method != b"POST":
        raise _not_an_operation(head)
    known = _plans.get((head.amz_target, endpoint_host))
    if known is not None:
        return known
    found = _plan(head, endpoint_host)
    if len(_plans) < _PLANS_LIMIT:
        _plans[head.amz_target, endpoint_host] = found
    return found


def host_of(endpoint_host: str, api: str, operation: str) -> str:
    """The host for an operation, given any host of the service; a host that is not AWS's serves everything itself."""
    match = _HOST(endpoint_host)
    if match is None:
        return endpoint_host
    fips = "-fips" if "-fips" in (match["label"] or match["of_account"]) else ""
    if match["account"]:
        kind = "streams-" if api == STREAMS else "search-" if operation in _SEARCHES else ""
        return f"{match['account']}.{kind}ddb{fips}.{match['rest']}"
    dual = match["suffix"].startswith(_DUAL_STACK)
    if api == STREAMS:
        if fips and not dual and match["rest"].startswith(_GOV):
            fips = ""  # the region's one host is FIPS already
        label = f"streams-dynamodb{fips}" if dual else f"streams.dynamodb{fips}"
    else:
        label = f"search-dynamodb{fips}" if operation in _SEARCHES else f"dynamodb{fips}"
    return f"{label}.{match['rest']}"


def _plan(head: RequestHead, endpoint_host: str) -> Plan:
    text = head.amz_target.decode("ascii", "replace")
    match = _OPERATION(text)
    if match is None:
        raise _not_an_operation(head)
    api, operation = match.groups()
    if api not in (TABLES, STREAMS):
        raise Refused(
            Reason.FEATURE_REFUSED,
            f"{api}.{operation} is neither DynamoDB nor DynamoDB Streams; this listener signs for those alone",
        )
    return Plan(
        host=host_of(endpoint_host, api, operation),
        target=_ROOT,
        operation=operation,
        repeatable=operation.startswith(_READS),
    )


def _not_an_operation(head: RequestHead) -> Refused:
    shown = head.amz_target[:80].decode("ascii", "replace")
    if head.method != b"POST":
        what = f"a {head.method.decode()} is no DynamoDB request"
    elif head.target != b"/":
        tidy(head.target)
        what = "a DynamoDB request has the path /"
    elif not shown:
        what = "the request has no X-Amz-Target header"
    else:
        what = f"X-Amz-Target {shown!r} names no operation"
    return Refused(Reason.INVALID_REQUEST, f"{what}: send what an AWS SDK for DynamoDB sends")
