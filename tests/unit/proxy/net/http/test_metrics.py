"""What /metrics says of requests over HTTP."""

from __future__ import annotations

from proxy.errors import Refused
from tests.support.ca import TestCa
from tests.support.http_stage import call, http_stage
from tests.support.quiet import page
from tollbridge.reasons import Reason


async def test_answers_refusals_connections_and_room(ca: TestCa) -> None:
    """By status, by reason, new and kept, in memory and spooled."""
    async with http_stage(ca) as stage:
        metrics = page(http=stage.http, http_listeners=[stage.listener])
        for _ in range(3):
            assert (await stage.ask(call())).status == 200
        stage.grants.refusal = Refused(Reason.DENIED_BY_RULE, "no")
        assert (await stage.ask(call(user="other"))).status == 403
        text = metrics.exposition().decode()
    for line in (
        'tollbridge_proxy_http_answers_total{status="200"} 3.0',
        'tollbridge_proxy_http_answers_total{status="403"} 1.0',
        'tollbridge_proxy_http_refused_total{reason="DENIED_BY_RULE"} 1.0',
        'tollbridge_proxy_http_upstream_uses_total{result="new"} 1.0',
        'tollbridge_proxy_http_upstream_uses_total{result="kept"} 2.0',
        "tollbridge_proxy_http_upstream_connections 1.0",
        'tollbridge_proxy_http_buffered_bytes{where="memory"} 0.0',
    ):
        assert line in text
