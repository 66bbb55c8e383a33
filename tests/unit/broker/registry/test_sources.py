"""Three inputs, one registry: what each says replaces what it said, and nothing else."""

from __future__ import annotations

import pytest

from broker.model import Origin
from broker.registry.registry import Registry
from broker.registry.sources import Sources
from tests.unit.broker.registry.test_snapshot import database


def test_each_source_replaces_only_what_it_said_itself() -> None:
    sources = Sources(registry := Registry())
    sources.put_static([database("s")])
    sources.put_dynamic([database("d", origin=Origin.DYNAMIC)])
    sources.put_discovered([database("f", origin=Origin.DISCOVERED), database("g", origin=Origin.DISCOVERED)])
    assert sorted(registry.current().by_name) == ["d", "f", "g", "s"]
    sources.put_discovered([database("g", origin=Origin.DISCOVERED)])
    assert sorted(registry.current().by_name) == ["d", "g", "s"]
    sources.put_dynamic([])
    assert sorted(registry.current().by_name) == ["g", "s"]
    assert sources.counts == {Origin.STATIC: 1, Origin.DYNAMIC: 0, Origin.DISCOVERED: 1}


def test_who_comes_later_does_not_take_a_name_and_is_listed() -> None:
    """Whatever the order in which sources speak: static beats dynamic beats discovered."""
    sources = Sources(registry := Registry())
    sources.put_discovered([database("a", origin=Origin.DISCOVERED)])
    assert registry.current().by_name["a"].origin is Origin.DISCOVERED
    sources.put_dynamic([database("a", account="333333333333", origin=Origin.DYNAMIC)])
    assert registry.current().by_name["a"].origin is Origin.DYNAMIC
    (loser,) = sources.renamed
    assert (loser.wanted, loser.served_as) == ("a", "a-rds-us-west-1-222222222222")
    assert sources.of(Origin.DISCOVERED)[0].name == "a"


def test_the_same_again_wakes_nobody() -> None:
    sources = Sources(registry := Registry())
    sources.put_static([database("a")])
    before = registry.current()
    sources.put_static([database("a")])
    assert registry.current() is before


def test_a_source_cannot_speak_for_another() -> None:
    sources = Sources(Registry())
    with pytest.raises(ValueError, match="dynamic databases were expected, not static"):
        sources.put_dynamic([database("a", origin=Origin.STATIC)])
