"""What /metrics says of requests over HTTP."""

from __future__ import annotations

from proxy.errors import Refused
from proxy.metrics import Metrics, Sources
from proxy.net.counters import Counters
from proxy.net.gate import Gate
from tests.support.ca import TestCa
from tests.support.http_stage import call, http_stage
from tollbridge.reasons import Reason


class Quiet:
    """Stands where these metrics do not look."""

    counters = type("None", (), {"hits": 0, "misses": 0, "shared": 0, "outages": 0, "denied": 0})()
    connected = breaks = lost = 0

    def __len__(self) -> int:
        return 0


async def test_answers_refusals_connections_and_room(ca: TestCa) -> None:
    """By status, by reason, new and kept, in memory and spooled."""
    async with http_stage(ca) as stage:
        page = Metrics(
            Sources(
                net=Counters(),
                gate=Gate(),
                live_bytes=lambda: (0, 0),
                grants=Quiet(),  # type: ignore[arg-type]
                catalog=Quiet(),  # type: ignore[arg-type]
                audit=Quiet(),  # type: ignore[arg-type]
                draining=lambda: False,
                http=stage.http,
                http_listeners=[stage.listener],
            ),
            process_metrics=False,
        )
        for _ in range(3):
            assert (await stage.ask(call())).status == 200
        stage.grants.refusal = Refused(Reason.DENIED_BY_RULE, "no")
        assert (await stage.ask(call(user="other"))).status == 403
        text = page.exposition().decode()
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
