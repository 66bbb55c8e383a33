"""The demo's tours: each product's login and refusal come true through broker and proxy, with the usual client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.demo.narrator import Narrator
from deploy.demo.tours import TOURS, Guide
from deploy.sandbox.bridge import Bridge, spoken
from deploy.sandbox.world import World


@pytest.fixture(scope="module")
def whole_bridge(whole_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Broker and proxy before every database of the sandbox that this proxy can speak to."""
    with Bridge(whole_world, tmp_path_factory.mktemp("whole-bridge")) as bridge:
        yield bridge


@pytest.mark.parametrize("product", TOURS)
def test_every_step_of_a_tour_comes_true(
    whole_bridge: Bridge, product: str, capsys: pytest.CaptureFixture[str]
) -> None:
    narrator = Narrator()
    Guide(whole_bridge, narrator).show(product)
    said = capsys.readouterr().out
    assert narrator.failures == [], said
    toured = TOURS[product].database in spoken(whole_bridge.world)
    assert (said.count("ok ("), "left out" in said) == ((2, False) if toured else (0, True)), said
