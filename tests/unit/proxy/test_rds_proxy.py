"""RDS Proxy: trusted by the system's store, which SSL_CERT_FILE replaces, at custom endpoints too; not otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.engines.postgres import wire
from proxy.script import CLIENT
from tests.contract.house import House, database
from tests.support.peer import serving
from tests.unit.proxy.test_check import STEPS, against, outcome
from tests.unit.proxy.whole import FakePostgres, configuration, whole
from tollbridge.model import Database, Endpoint, Product, TlsFacts, TrustStore
from tollbridge.reasons import Reason

HOSTS = ("orders.proxy-abc.eu-central-1.rds.amazonaws.com", "readers.endpoint.proxy-abc.eu-central-1.rds.amazonaws.com")
"""The default endpoint of a proxy, and one that its owner has added."""


def an_rds_proxy(house: House, host: str) -> Database:
    """Registered as `orders`, with the trust that the broker gives an RDS Proxy."""
    made = database(
        "orders",
        product=Product.RDSPROXY,
        endpoint=Endpoint(host=host, port=5432),
        tls=TlsFacts(trust_store=TrustStore.SYSTEM),
    )
    house.register(made)
    house.grants.facts["orders"] = made
    return made


@pytest.mark.parametrize("host", HOSTS)
async def test_a_login_and_a_check_trust_the_systems_store(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(house.ca.file))
    orders = an_rds_proxy(house, host)

    def dial(document: dict[str, Any]) -> None:
        document["dial"] = {str(orders.endpoint): next(iter(document["dial"].values()))}
        document["trust"] = {}

    async with house.serving():
        async with whole(house, tmp_path, change=dial) as proxy:
            proxy.postgres.host = host
            _, said = await proxy.login()
            assert said.endswith(b"ZI")
        async with serving(FakePostgres(house, host).serve) as server:
            document = configuration(house, tmp_path, server.port, house.address)
            document["dial"] = {str(orders.endpoint): f"127.0.0.1:{server.port}"}
            report = await against(document, tmp_path)
    steps, detail, _, code = outcome(report)
    assert (steps, code) == (STEPS, 0)
    assert detail.endswith("answered `select 1`")
    assert {result.step: result.detail for result in report.results}["database"].startswith(f"rdsproxy at {host}")


async def test_rdss_own_authorities_do_not_vouch_for_a_proxy(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trust.aws_rds` holds the server's CA here, and the system's store does not: no credential goes out."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    orders = an_rds_proxy(house, HOSTS[0])

    def dial(document: dict[str, Any]) -> None:
        document["dial"] = {str(orders.endpoint): next(iter(document["dial"].values()))}

    async with house.serving(), whole(house, tmp_path, change=dial) as proxy:
        proxy.postgres.host = HOSTS[0]
        _, said = await proxy.login()
        fields = wire.error_fields(said[1:], CLIENT)
        assert fields["C"] == "08001"
        assert "trust store system" in fields["M"]
        assert proxy.postgres.startups == []
    assert proxy.lines()[-1]["reason"] == Reason.UPSTREAM_TLS_UNVERIFIED
