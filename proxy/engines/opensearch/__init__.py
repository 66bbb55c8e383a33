"""OpenSearch Service domains and OpenSearch Serverless collections: REST, every request signed for itself.

Spec: https://docs.aws.amazon.com/opensearch-service/latest/developerguide/request-signing.html,
https://docs.aws.amazon.com/opensearch-service/latest/developerguide/serverless-clients.html

    client (any HTTP client)          proxy                         broker              upstream
      | GET /logs-*/_search?q=a+b       |                             |                    |
      |-------------------------------->|  may this workload be Name? |                    |
      |                                 |---------------------------->|                    |
      |                                 |<-- keys of today -----------|                    |
      |                                 |==== TLS, name verified =========================>|
      |                                 |  GET /logs-*/_search?q=a%20b                     |
      |                                 |  our signature over exactly that                 |
      |                                 |------------------------------------------------->|
      |<--------------------------------|<-------------------------------------------------|
      |                                 |  refused signature: a fresh key, once more       |

Domains sign as `es`, collections as `aoss`, which the broker says with the key. Both get X-Amz-Content-Sha256: a
collection wants it. A collection also takes bodies whose hash is not signed, so large ones are streamed there. Answers
are streamed, whatever their length. Websockets are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.engines.opensearch import refusals
from proxy.errors import Refused
from proxy.http.heads import RequestHead, ResponseHead
from proxy.http.model import Plan, Probe, Reply, Verdict
from proxy.http.target import decoded, tidy
from tollbridge.reasons import Reason

__all__ = ["OpensearchEngine"]

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})
_REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})
_READING_POSTS: Final = ("_search", "_msearch", "_count", "_mget", "_field_caps", "_validate")
_ADVANCES: Final = re.compile(rb"/_search/(?:scroll|point_in_time)(?:/|$)").search
"""Whatever the method: each call hands out the next page, or opens another view."""


class OpensearchEngine:
    """The protocol `opensearch`. Implements `proxy.engine.HttpEngine`."""

    services: frozenset[str] = frozenset({"es", "aoss"})
    payload_header: bool = True

    def plan(self, head: RequestHead, endpoint_host: str) -> Plan:
        """The endpoint is the only host. Raises Refused and BadHttp."""
        if head.method not in METHODS:
            shown = head.method.decode("ascii", "replace")
            raise Refused(Reason.FEATURE_REFUSED, f"{shown} is no method of OpenSearch's REST API")
        target = tidy(head.target)
        _, api = place(target.path)
        reads = head.method in _REPEATABLE or api in _READING_POSTS
        return Plan(
            host=endpoint_host,
            target=target,
            operation=api,
            repeatable=reads and not _ADVANCES(decoded(target.path)),
        )

    def takes_unsigned(self, service: str) -> bool:
        """Collections do."""
        return service == "aoss"

    def refuse(self, refusal: Refused, status: int | None = None) -> Reply:
        """See HttpEngine."""
        return refusals.reply(refusal, status)

    def judge(self, head: ResponseHead, body: bytes) -> Verdict:
        """By the texts that AWS's front answers with."""
        return refusals.judge(head, body)

    def facts(self, head: RequestHead, plan: Plan, body: bytes) -> Mapping[str, str]:
        """Index and API, from the path."""
        index, api = place(plan.target.path)
        facts = {"path": plan.target.path.decode("ascii", "replace")}
        if index:
            facts["index"] = index
        if api:
            facts["api"] = api
        return facts

    def probe(self) -> Probe:
        """The root of the API. A collection answers 404 there, once it has taken the signature."""
        return Probe(head=b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json")

    def probed(self, head: ResponseHead, body: bytes) -> str:
        """See HttpEngine."""
        return refusals.probed(head, body)


def place(path: bytes) -> tuple[str, str]:
    """The index expression of a path and the API's name; either can be empty."""
    index, api = "", ""
    for number, segment in enumerate(path[1:].split(b"/")):
        if segment.startswith(b"_"):
            api = segment.decode("ascii", "replace")
            break
        if number == 0:
            index = decoded(segment).decode("utf-8", "replace")
    return index, api
