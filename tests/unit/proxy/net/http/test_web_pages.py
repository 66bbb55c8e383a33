"""Pages in a browser on this machine, at listeners that take every client for one workload."""

from __future__ import annotations

import pytest

from proxy.net.identity import ClientCertificates
from tests.support.ca import TestCa
from tests.support.http_stage import http_stage, read_answer

GET = b"GET /shop/_search HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=reader/1/2/3/4, x\r\n"


@pytest.mark.parametrize("mark", [b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site", b"origin: null"])
async def test_no_web_page_rides_on_who_sits_at_this_machine(ca: TestCa, mark: bytes) -> None:
    """A listener with a fixed workload cannot tell a page from a program: what only browsers say is refused."""
    async with http_stage(ca, service="es") as stage:
        client = await stage.dial()
        await client.send(GET + b"\r\n")
        assert (await read_answer(client)).status == 200
        await client.send(GET + mark + b"\r\n\r\n")
        got = await read_answer(client)
        assert got.status == 400
        assert b"web pages" in got.body
        assert len(stage.upstream.requests) == 1


@pytest.mark.parametrize(
    "host", [b"rebound.example:9200", b"rebound.example", b"127.0.0.1.rebound.example.:80", b"a.B"]
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_no_page_reads_under_a_name_of_its_own_that_leads_here_by_now(
    ca: TestCa, method: bytes, host: bytes
) -> None:
    """Its browser adds nothing to such a request: the Host is all that tells it from a program's."""
    async with http_stage(ca, service="es") as stage:
        request = GET.replace(b"GET ", method + b" ").replace(b"Host: h", b"Host: " + host) + b"\r\n"
        assert (await stage.ask(request, bodiless=method == b"HEAD")).status == 400
        assert stage.upstream.requests == []


@pytest.mark.parametrize(
    "host", [b"127.0.0.1:9200", b"localhost", b"LocalHost.:80", b"a.localhost:1", b"[::ffff:127.0.0.1]:9200", b"search"]
)
async def test_programs_ask_under_names_that_no_page_can_have(ca: TestCa, host: bytes) -> None:
    async with http_stage(ca, service="es") as stage:
        assert (await stage.ask(GET.replace(b"Host: h", b"Host: " + host) + b"\r\n")).status == 200


async def test_a_name_that_our_certificate_bears_is_no_strangers(ca: TestCa) -> None:
    """A page's browser would not get as far."""
    async with http_stage(
        ca, service="es", client_certificates=ClientCertificates.NONE, tls_available=True, tls_required=True
    ) as stage:
        peer = await stage.dial()
        await peer.tls(ca.client_context(), "proxy.example")
        await peer.send(GET.replace(b"Host: h", b"Host: proxy.example") + b"\r\n")
        assert (await read_answer(peer)).status == 200


async def test_a_name_that_the_operator_has_listed_is_no_strangers(ca: TestCa) -> None:
    async with http_stage(ca, service="es", hosts={"search.shop.internal": "shop"}, database=None) as stage:
        assert (await stage.ask(GET.replace(b"Host: h", b"Host: search.shop.internal") + b"\r\n")).status == 200
