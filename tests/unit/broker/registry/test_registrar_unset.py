"""A broker whose configuration asks for no dynamic databases."""

from __future__ import annotations

from pathlib import Path

from tests.support.documents import THE_PAGES
from tests.unit.broker.registry.test_registrar import OPS, Office, refused
from tests.unit.broker.registry.test_snapshot import database
from tollbridge.reasons import Reason


async def test_a_broker_without_selectors_says_what_is_missing(tmp_path: Path) -> None:
    office = Office(tmp_path / "r.db", stored=False)
    said = await refused(Reason.REGISTRY_DISABLED, office.registrar.create(OPS, THE_PAGES))
    assert "add db_service.resources" in said
    office.sources.put_static([database("s")])
    assert [entry.name for entry in office.registrar.list(OPS)] == ["s"]
