"""The demo's tours: each product's login and refusal come true through broker and proxy, with the usual client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final

import pytest

from deploy.demo.narrator import Narrator
from deploy.demo.tours import TOURS, Guide
from deploy.sandbox.bridge import Bridge, spoken

Bridges = Callable[[str], Bridge]

WORLDS: Final = MappingProxyType(
    {"dynamodb": "http_world", "opensearch": "http_world", "cassandra": "nosql_world", "mongodb": "nosql_world"}
)
"""Where a product is to be had, if not in the whole world."""


@pytest.fixture(scope="module")
def bridges(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridges]:
    """Broker and proxy before every database of a world that this proxy can speak to."""
    made: dict[str, Bridge] = {}

    def bridge(name: str) -> Bridge:
        if name not in made:
            made[name] = Bridge(request.getfixturevalue(name), tmp_path_factory.mktemp("tours"))
            made[name].up()
        return made[name]

    yield bridge
    for started in made.values():
        started.down()


@pytest.mark.parametrize("product", TOURS)
def test_every_step_of_a_tour_comes_true(bridges: Bridges, product: str, capsys: pytest.CaptureFixture[str]) -> None:
    bridge, narrator = bridges(WORLDS.get(product, "whole_world")), Narrator()
    capsys.readouterr()
    Guide(bridge, narrator).show(product)
    said = capsys.readouterr().out
    assert narrator.failures == [], said
    toured = TOURS[product].database in spoken(bridge.world)
    assert (said.count("ok ("), "left out" in said) == ((2, False) if toured else (0, True)), said
