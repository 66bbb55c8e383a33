"""Results in the registry's store: what comes back is judged again and decides about no access."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.discovery import documents
from broker.discovery.model import CellState, Failure, StoredCell
from broker.discovery.stored import PART_BYTES, RegistryStore
from broker.discovery.table import Look, succeeded
from broker.errors import BrokerError
from broker.registry.sqlite import SqliteStore
from broker.registry.store import DISCOVERED, Change, StoreError
from tests.support.clock import FakeClock
from tests.unit.broker.discovery.answers import ACCOUNT, ANSWERS, CLUSTER, INSTANCE, cell, changed, found
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

AT = datetime(2030, 1, 1, tzinfo=UTC)


def state(product: Product = Product.RDS, **answers: Any) -> CellState:
    registered, skipped = found(product, answers or ANSWERS[product])
    before = CellState(key=cell(product).key, account_id=ACCOUNT)
    look = Look(account_id=ACCOUNT, registered=registered, skipped=skipped, notes=["tags are no labels here"])
    return succeeded(before, look, at=AT, seconds=1.5)


@pytest.mark.parametrize("product", list(ANSWERS))
def test_what_is_stored_comes_back(product: Product) -> None:
    before = state(product)
    after = documents.unpack(documents.pack(before).document, cell(product))
    assert after == before


def test_skips_and_failures_come_back() -> None:
    off = changed(CLUSTER, IAMDatabaseAuthenticationEnabled=False)
    before = replace(
        state(DescribeDBInstances=[INSTANCE], DescribeDBClusters=[off]),
        failure=Failure(reason=Reason.AWS_THROTTLED, message="slow down", at=AT),
        failures=3,
    )
    after = documents.unpack(documents.pack(before).document, cell(Product.RDS))
    assert (after.failure, after.failures) == (before.failure, 3)
    assert [(each.name, each.target) for each in after.skipped] == [(each.name, each.target) for each in before.skipped]


def test_role_and_external_id_are_the_configurations() -> None:
    reached = replace(cell(Product.RDS), external_id=Secret("example-external-id"))
    stored = documents.pack(state())
    assert b"external" not in zlib.decompress(stored.document)
    after = documents.unpack(stored.document, reached)
    assert {known.database.access.external_id.reveal() for known in after.known} == {"example-external-id"}


def forged(**changes: Any) -> bytes:
    content = json.loads(zlib.decompress(documents.pack(state(DescribeDBInstances=[INSTANCE])).document))
    content["known"][0].update(changes)
    return zlib.compress(json.dumps(content).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"host": "db.evil.example"},
        {"host": "rds-postgres.abcdef012345.eu-west-1.rds.amazonaws.com"},
        {"host": "wh.abcdef012345.us-west-1.redshift.amazonaws.com"},
        {"arn": "arn:aws:rds:us-west-1:999999999999:db:x"},
        {"port": 0},
        {"ids": {"rds.instance_id": "x\n"}},
    ],
)
def test_a_forged_entry_is_left_out(change: dict[str, Any]) -> None:
    assert documents.unpack(forged(**change), cell(Product.RDS)).known == ()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        zlib.compress(b""),
        zlib.compress(b"[]"),
        zlib.compress(b'{"version": 99}'),
        zlib.compress(b'{"version": 1}'),
        zlib.compress(b"[" * 100_000),
        documents.pack(state()).document[:-10],
        forged(first_seen_at="yesterday"),
        forged(first_seen_at="2030-01-01T00:00:00"),
        forged(protocol="smtp"),
        forged(labels=[]),
        forged(port="x"),
        forged(port=float("inf")),
    ],
)
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(documents.Unreadable):
        documents.unpack(document, cell(Product.RDS))


def test_a_document_of_another_account_than_the_roles_is_refused() -> None:
    content = json.loads(zlib.decompress(documents.pack(state()).document))
    content["account_id"] = "333333333333"
    with pytest.raises(documents.Unreadable, match="account"):
        documents.unpack(zlib.compress(json.dumps(content).encode()), cell(Product.RDS))


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "registry.db", FakeClock())
    await store.open()
    yield store
    await store.close()


def large(key: str, size: int) -> StoredCell:
    return StoredCell(key=key, document=random.Random(key).randbytes(size))


async def test_cells_of_any_size_come_back_whole(file: SqliteStore) -> None:
    cells = [large(f"cell {n}", size) for n, size in enumerate((0, 1, PART_BYTES, PART_BYTES + 1, 40 * PART_BYTES))]
    await RegistryStore(file, broker="a").save(cells, [])
    assert sorted(await RegistryStore(file, broker="b").load(), key=lambda each: each.key) == cells


async def test_a_smaller_document_leaves_no_parts_behind_and_gone_cells_go(file: SqliteStore) -> None:
    store = RegistryStore(file, broker="a")
    await store.save([large("x", 5 * PART_BYTES), large("y", 3 * PART_BYTES)], [])
    other = RegistryStore(file, broker="b")
    await other.load()
    await other.save([large("x", 10)], ["y"])
    assert list(await store.load()) == [large("x", 10)]
    assert len((await file.changes(DISCOVERED, None)).items) == 1


async def test_an_unchanged_store_is_not_read_again(file: SqliteStore) -> None:
    store = RegistryStore(file, broker="a")
    await store.save([large("x", 10)], [])
    first = await store.load()
    assert await store.load() is first
    await RegistryStore(file, broker="b").save([large("x", 11)], [])
    assert list(await store.load()) == [large("x", 11)]


async def test_what_one_wrote_alone_need_not_be_read_again(file: SqliteStore) -> None:
    store = RegistryStore(file, broker="a")
    await store.load()
    assert await store.save([large("x", 5 * PART_BYTES), large("y", 10)], [])
    assert sorted(await store.load(), key=lambda each: each.key) == [large("x", 5 * PART_BYTES), large("y", 10)]
    assert await store.save([large("z", 10)], ["y"])
    assert {each.key for each in await store.load()} == {"x", "z"}
    assert list(await RegistryStore(file, broker="b").load()) != []
    await RegistryStore(file, broker="b").save([large("x", 1)], [])
    assert not await store.save([large("y", 10)], [])
    assert {each.key: len(each.document) for each in await store.load()} == {"x": 1, "y": 10, "z": 10}


async def test_a_cell_that_is_being_written_is_left_out(file: SqliteStore) -> None:
    store = RegistryStore(file, broker="a")
    await store.save([large("x", 3 * PART_BYTES), large("y", 10)], [])
    items = (await file.changes(DISCOVERED, None)).items
    part = next(item for item in items if item.name.endswith(".2"))
    await file.write(DISCOVERED, [Change(name=part.name, document=None)], by="c")
    await file.write(DISCOVERED, [Change(name="somebody's", document="not ours")], by="c")
    assert [each.key for each in await RegistryStore(file, broker="b").load()] == ["y"]


@pytest.mark.parametrize(
    "document",
    [
        '{"key":"k","digest":"d","part":Infinity,"parts":1,"data":""}',
        '{"key":"k","digest":"d","part":0,"parts":1e400,"data":""}',
        '{"key":"k","digest":"d","part":0,"parts":2000000000,"data":""}',
        '{"key":"k","digest":"d","part":-1,"parts":1,"data":""}',
        "[" * 100_000,
    ],
)
async def test_a_part_that_no_broker_wrote_is_left_out_and_costs_nothing(file: SqliteStore, document: str) -> None:
    """Two thousand million parts were sixteen gigabytes, and an infinity the end of the broker's start."""
    await RegistryStore(file, broker="a").save([large("x", 10)], [])
    await file.write(DISCOVERED, [Change(name="somebody's", document=document)], by="c")
    tracemalloc.start()
    try:
        assert [each.key for each in await RegistryStore(file, broker="b").load()] == ["x"]
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


async def test_one_owner_holds_the_lease(file: SqliteStore) -> None:
    store = RegistryStore(file, broker="a")
    assert await store.lease("a", 30)
    assert not await store.lease("b", 30)
    assert await store.lease("a", 30)


async def test_a_store_that_does_not_answer_is_a_broker_error() -> None:
    class Away:
        async def mark(self, kind: str) -> int:
            raise StoreError("the table does not answer")

    with pytest.raises(BrokerError, match="does not answer") as raised:
        await RegistryStore(Away(), broker="a").load()  # type: ignore[arg-type]
    assert raised.value.reason is Reason.REGISTRY_UNAVAILABLE
