"""RegistryService over mTLS: who may call, what a bad document hears, pages of many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.api.registry import RegistryServicer
from broker.api.status import invalid_document
from broker.model import Origin as BrokerOrigin
from tests.contract.house import APP, House
from tests.support.documents import THE_PAGES, document
from tests.unit.broker.registry.test_registrar import OPERATORS, OPS, SHOP, VIEWER, Office
from tests.unit.broker.registry.test_snapshot import database
from tollbridge.client import Client, Origin, RpcFailed
from tollbridge.process.settings import Problem
from tollbridge.reasons import Reason


@asynccontextmanager
async def registry(house: House, folder: Path) -> AsyncIterator[tuple[Office, Callable[[str], Client]]]:
    """A served registrar; makes clients by identity."""
    office = Office(folder / "registry.db")
    await office.dynamic.start()
    async with house.serving(may=OPERATORS.may, more=(RegistryServicer(office.registrar).add_to,)):
        yield office, lambda caller: house.client(house.identity(caller, name=caller.rpartition("/")[2]))
    await office.store.close()


async def test_a_database_is_created_read_changed_and_deleted(house: House, tmp_path: Path) -> None:
    async with registry(house, tmp_path) as (_, client), client(OPS) as operator:
        made = await operator.create_database(THE_PAGES)
        assert (made.name, made.served_as, made.origin, made.revision) == (
            "rds-postgres",
            "rds-postgres",
            Origin.DYNAMIC,
            "1",
        )
        assert (made.account_link, made.assume_role_arn) == ("example", "arn:aws:iam::222222222222:role/example-role")
        assert made.database is not None
        assert made.database.endpoint.port == 5432
        assert (made.written_by, made.problems) == (OPS, ())
        found = await operator.get_database("rds-postgres")
        assert found == made
        changed = await operator.update_database(found.document.replace("Example", "Another"))
        assert (changed.revision, "Another" in changed.document) == ("2", True)
        with pytest.raises(RpcFailed) as stale:
            await operator.update_database(found.document)
        assert stale.value.reason is Reason.REVISION_CONFLICT
        assert stale.value.metadata == {"database": "rds-postgres", "revision": "2"}
        assert not stale.value.retryable
        await operator.delete_database("rds-postgres", revision="2")
        with pytest.raises(RpcFailed) as gone:
            await operator.get_database("rds-postgres")
        assert gone.value.reason is Reason.DATABASE_UNKNOWN


async def test_a_bad_document_hears_every_problem_with_path_line_and_hint(house: House, tmp_path: Path) -> None:
    async with registry(house, tmp_path) as (_, client), client(OPS) as operator:
        with pytest.raises(RpcFailed) as caught:
            await operator.create_database(document(spec__uri="attacker.example:5432", metadata__name="-"))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert {problem.path for problem in caught.value.problems} == {"metadata.name", "spec.uri", "spec.aws.region"}
    first = caught.value.problems[0]
    assert (first.line, first.path, first.hint) == (4, "metadata.name", "")
    assert all(problem.message for problem in caught.value.problems)
    assert caught.value.omitted == 0


async def test_more_problems_than_a_status_holds_are_counted(house: House, tmp_path: Path) -> None:
    """A status that is too large would be dropped whole by the peer."""
    labels = {f"bad label {number}": "x" for number in range(200)}
    async with registry(house, tmp_path) as (_, client), client(OPS) as operator:
        with pytest.raises(RpcFailed) as caught:
            await operator.create_database(document(metadata__labels=labels))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert len(caught.value.problems) > 10
    assert len(caught.value.problems) + caught.value.omitted == 200


def test_problems_in_any_script_and_of_any_length_fit_a_status() -> None:
    """Half of what peers take, so that the rest has room."""
    problems = [Problem(path="é" * 500, line=1, message="\U0001f600" * 2000, hint="x" * 2000) for _ in range(50)]
    detail = invalid_document(problems)
    assert detail.ByteSize() <= 4000
    assert len(detail.problems) + detail.omitted == 50


@pytest.mark.parametrize(("caller", "power"), [(APP, "view"), (APP, "register"), (VIEWER, "register")])
async def test_who_lacks_the_power_is_refused_before_anything_is_looked_at(
    house: House, tmp_path: Path, caller: str, power: str
) -> None:
    async with registry(house, tmp_path) as (office, client), client(caller) as stranger:
        attempts: dict[str, list[Any]] = {
            "view": [stranger.get_database("x"), stranger.list_registrations()],
            "register": [
                stranger.create_database("no document at all"),
                stranger.update_database("no document at all"),
                stranger.delete_database("x"),
            ],
        }
        for other in attempts.keys() - {power}:
            for attempt in attempts[other]:
                attempt.close()
        for attempt in attempts[power]:
            with pytest.raises(RpcFailed) as refused:
                await attempt
            assert refused.value.reason is Reason.CALLER_NOT_ALLOWED
            assert f"{caller} may not {power}" in refused.value.message
            assert f"may: [{power}]" in refused.value.message
        assert office.store.asked == [("db", None)]


async def test_a_list_comes_in_pages_of_every_origin_and_only_what_labels_allow(house: House, tmp_path: Path) -> None:
    async with registry(house, tmp_path) as (office, client):
        office.sources.put_static([database(f"s-{number:03}") for number in range(150)])
        office.sources.put_discovered(
            [database(f"d-{number:03}", origin=BrokerOrigin.DISCOVERED) for number in range(150)]
        )
        await office.registrar.create(OPS, document("mine", metadata__labels={"team": "shop"}))
        async with client(OPS) as operator, client(SHOP) as shop:
            everything = await operator.list_registrations()
            assert len(everything) == 301
            assert [entry.name for entry in everything] == sorted(entry.name for entry in everything)
            dynamic = await operator.list_registrations([Origin.DYNAMIC])
            assert [entry.name for entry in dynamic] == ["mine"]
            assert [entry.name for entry in await shop.list_registrations()] == ["mine"]
            assert {entry.origin for entry in everything} == set(Origin) - {Origin.UNKNOWN}


async def test_an_update_that_the_store_cannot_take_is_not_tried_again_by_the_client(
    house: House, tmp_path: Path
) -> None:
    """Whether a write whose answer was lost happened is the operator's to see, not a retry's to repeat."""
    async with registry(house, tmp_path) as (office, client), client(OPS) as operator:
        office.store.away = True
        with pytest.raises(RpcFailed) as away:
            await operator.create_database(THE_PAGES)
        assert away.value.reason is Reason.REGISTRY_UNAVAILABLE
        assert house.served["/tollbridge.v1.RegistryService/CreateDatabase"] == 1
