"""The sandbox's table of engines and databases: complete, and read by the broker as it is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.registry.endpoints import parse_endpoint
from broker.registry.products import PROTOCOLS
from deploy.demo.tours import TOURS
from deploy.sandbox import Sandbox, SandboxError, topology
from deploy.sandbox.engines import DEFAULT, ENGINES, chosen
from tollbridge.model import Product, Protocol

SPECS = [spec for specs in topology.ENGINE_DATABASES.values() for spec in specs]


def test_every_engine_has_databases_and_every_database_an_engine() -> None:
    assert topology.ENGINE_DATABASES.keys() == ENGINES.keys()
    assert len({spec.name for spec in SPECS}) == len(SPECS)


def test_no_two_databases_share_a_host_unless_the_account_tells_them_apart() -> None:
    assert len({(spec.host, spec.account_id) for spec in SPECS}) == len(SPECS)
    shared = [spec for spec in SPECS if sum(other.host == spec.host for other in SPECS) > 1]
    assert {spec.product for spec in shared} == {"dynamodb"}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_broker_reads_a_host_as_the_product_it_stands_for(spec: topology.DatabaseSpec) -> None:
    endpoint = parse_endpoint(spec.host)
    assert endpoint is not None
    assert (endpoint.product, endpoint.region) == (Product(spec.product), topology.REGION)
    assert Protocol(spec.protocol) in PROTOCOLS[endpoint.product]
    assert endpoint.account_id in ("", spec.account_id)


def test_engines_come_in_the_order_of_the_table_whatever_order_they_are_named_in() -> None:
    assert list(chosen(("valkey", "postgres"))) == ["postgres", "valkey"]
    assert list(chosen(DEFAULT)) == ["postgres"]


def test_an_engine_that_there_is_not_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no such engine: oracle; there are postgres"):
        Sandbox(tmp_path / "sandbox", engine_names=("postgres", "oracle"))
    assert not (tmp_path / "sandbox").exists()


def test_there_is_a_tour_of_every_engine_but_the_one_with_a_story_of_its_own() -> None:
    assert {"postgres", *TOURS} == ENGINES.keys()
    assert all(TOURS[name].database in {s.name for s in topology.ENGINE_DATABASES[name]} for name in TOURS)
