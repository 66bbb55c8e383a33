"""DynamoDB and DynamoDB Streams: JSON over HTTP, every request signed for itself.

Spec: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html,
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/CommonErrors.html

    client (an SDK with any keys)     proxy                         broker              upstream
      | POST /                          |                             |                    |
      | X-Amz-Target: DynamoDB_...Put   |                             |                    |
      | Authorization: .../role/Name/.. |                             |                    |
      |-------------------------------->|  may this workload be Name? |                    |
      |                                 |---------------------------->|                    |
      |                                 |<-- keys of today ---------- |                    |
      |                                 |==== TLS, name verified =========================>|
      |                                 |  the same body, our signature, the role's token  |
      |                                 |------------------------------------------------->|
      |<--------------------------------|<-------------------------------------------------|
      |                                 |  refused signature: a fresh key, once more       |

The client's own signature is thrown away: its access key id says which role to be, or the listener does. Streams are
another host of the same service, told by the target's prefix. A role is asked for once and its keys sign for hours;
answers pass byte for byte, so that x-amz-crc32 stays true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.engines.dynamodb import refusals, routing
from proxy.errors import Refused
from proxy.http.heads import RequestHead, ResponseHead
from proxy.http.model import Plan, Probe, Reply, Verdict

__all__ = ["DynamodbEngine"]

_TABLE: Final = re.compile(rb'"(TableName|TableArn|StreamArn|ResourceArn)"\s*:\s*"([^"\\]{1,256})"').search
_ITEMS: Final = re.compile(rb'"RequestItems"\s*:\s*\{\s*"([^"\\]{1,256})"\s*:').search
_INDEX: Final = re.compile(rb'"IndexName"\s*:\s*"([^"\\]{1,256})"').search


class DynamodbEngine:
    """The protocol `dynamodb`. Implements `proxy.engine.HttpEngine`."""

    services: frozenset[str] = frozenset({"dynamodb"})
    payload_header: bool = False

    def plan(self, head: RequestHead, endpoint_host: str) -> Plan:
        """By X-Amz-Target. Raises Refused."""
        return routing.plan(head, endpoint_host)

    def takes_unsigned(self, service: str) -> bool:
        """No operation is modelled so."""
        return False

    def refuse(self, refusal: Refused, status: int | None = None) -> Reply:
        """See HttpEngine."""
        return refusals.reply(refusal, status)

    def judge(self, head: ResponseHead, body: bytes) -> Verdict:
        """By the error's code."""
        return refusals.judge(body)

    def facts(self, head: RequestHead, plan: Plan, body: bytes) -> Mapping[str, str]:
        """Table and index, read where every operation says them: by name at its top, or as the first of a batch."""
        facts = {"target": head.amz_target.decode("ascii", "replace")}
        if (table := _TABLE(body)) is not None:
            facts["table"] = table[2].decode("utf-8", "replace")
        elif (items := _ITEMS(body)) is not None:
            facts["table"] = items[1].decode("utf-8", "replace")
        if (index := _INDEX(body)) is not None:
            facts["index"] = index[1].decode("utf-8", "replace")
        return facts

    def probe(self) -> Probe:
        """DescribeEndpoints: it needs a permission that says nothing of any table, and its refusal proves as much."""
        head = (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.0\r\n"
            b"X-Amz-Target: DynamoDB_20120810.DescribeEndpoints\r\nContent-Length: 2"
        )
        return Probe(head=head, body=b"{}")

    def probed(self, head: ResponseHead, body: bytes) -> str:
        """Refused only by the signature: a role need not be allowed this call."""
        return refusals.probed(head, body)
