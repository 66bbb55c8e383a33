"""HTTPS towards clients: who they are and where they go, from certificate and server name."""

from __future__ import annotations

import ssl

import pytest

from proxy.net.http.house import HttpLimits
from proxy.net.identity import ClientCertificates
from tests.support.ca import TestCa
from tests.support.http_stage import HttpStage, call, http_stage, read_answer
from tests.support.peer import Peer
from tollbridge.reasons import Reason

WORKLOAD = "spiffe://td/from-certificate"


async def client(stage: HttpStage, *identity: str, name: str = "proxy.example") -> Peer:
    """On TLS."""
    return await (await stage.dial()).tls(stage.ca.client_context(*identity), name)


async def test_a_certificate_says_who_it_is(ca: TestCa) -> None:
    """And requests on the connection go with that."""
    async with http_stage(
        ca, client_certificates=ClientCertificates.OPTIONAL, workload=None, tls_available=True, tls_required=True
    ) as stage:
        peer = await client(stage, WORKLOAD)
        for _ in range(2):
            await peer.send(call(b"x" * 100_000))
            assert (await read_answer(peer)).status == 200
        assert stage.log.starts[0].facts.workload == WORKLOAD


async def test_without_a_certificate_it_says_what_to_do(ca: TestCa) -> None:
    """Over TLS, in the service's own form."""
    async with http_stage(
        ca, client_certificates=ClientCertificates.OPTIONAL, workload=None, tls_available=True, tls_required=True
    ) as stage:
        peer = await client(stage)
        await peer.send(call())
        got = await read_answer(peer)
        assert got.status == 403
        assert b"CLIENT_UNIDENTIFIED" in got.body


async def test_the_server_name_says_where(ca: TestCa) -> None:
    """As other listeners are routed."""
    async with http_stage(
        ca,
        client_certificates=ClientCertificates.OPTIONAL,
        tls_available=True,
        tls_required=True,
        database=None,
        sni_databases={"proxy.example": "by-name"},
    ) as stage:
        peer = await client(stage)
        await peer.send(call())
        assert (await read_answer(peer)).status == 200
        assert stage.log.starts[0].facts.database == "by-name"


@pytest.mark.parametrize("required", [True, False])
async def test_plain_text_where_there_is_tls(ca: TestCa, required: bool) -> None:
    """Refused with a word, or served on loopback where the operator wants that."""
    async with http_stage(
        ca, client_certificates=ClientCertificates.NONE, tls_available=True, tls_required=required
    ) as stage:
        got = await stage.ask(call())
        assert got.status == (403 if required else 200)
        assert (b"CLIENT_TLS_REQUIRED" in got.body) == required
        assert [row.reason for row in stage.log.refusals] == [Reason.CLIENT_TLS_REQUIRED] * required


async def test_a_client_that_does_not_trust_us_harms_nobody(ca: TestCa) -> None:
    """The next one is served."""
    async with http_stage(
        ca, client_certificates=ClientCertificates.NONE, tls_available=True, tls_required=True
    ) as stage:
        with pytest.raises(ssl.SSLError):
            await (await stage.dial()).tls(ssl.create_default_context(), "proxy.example")
        peer = await client(stage)
        await peer.send(call())
        assert (await read_answer(peer)).status == 200


@pytest.mark.parametrize("said", [b"\x16no handshake at all", b"\x16", b""], ids=["garbage", "half of it", "nothing"])
async def test_a_handshake_that_is_none_is_written_down(ca: TestCa, said: bytes) -> None:
    """As at every other listener; a health check, which comes and goes, is not."""
    limits = HttpLimits(head_seconds=0.2)
    async with http_stage(
        ca, client_certificates=ClientCertificates.NONE, tls_available=True, tls_required=True, limits=limits
    ) as stage:
        await (await stage.dial()).finish()
        peer = await stage.dial()
        await peer.send(said)
        await peer.to_end()
        assert [row.reason for row in stage.log.refusals] == [Reason.CLIENT_PROTOCOL]
        assert "TLS handshake" in stage.log.refusals[0].message
