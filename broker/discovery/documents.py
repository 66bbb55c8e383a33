"""A cell's state as a store keeps it, and back. PURE.

What comes back from a store decides about no access: role, external ID and their limits are the configuration's, and
every endpoint is judged again. Whoever can write into the store can at most invent databases that AWS's own grammar
allows in that region.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from broker.discovery.model import Cause, Cell, CellState, Failure, Known, Sighting, Skipped, StoredCell, Target
from broker.discovery.registration import judge, make
from broker.policies.statements import Place
from broker.registry.arns import is_account_id, partition_of_region
from tollbridge.model import Protocol
from tollbridge.reasons import Reason

VERSION: Final = 1
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
"""Unpacked: some 50,000 databases in one cell."""


class Unreadable(ValueError):
    """A document that no broker of this version wrote."""


def pack(state: CellState) -> StoredCell:
    """The state as a document."""
    content = {
        "version": VERSION,
        "account_id": state.account_id,
        "known": [_known(known) for known in state.known],
        "skipped": [_skipped(skipped) for skipped in state.skipped],
        "notes": list(state.notes),
        "last_attempt_at": _instant(state.last_attempt_at),
        "last_success_at": _instant(state.last_success_at),
        "failure": None
        if state.failure is None
        else {
            "reason": state.failure.reason.value,
            "message": state.failure.message,
            "at": _instant(state.failure.at),
        },
        "failures": state.failures,
        "seconds": round(state.seconds, 3),
    }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return StoredCell(key=state.key.text(), document=zlib.compress(text.encode(errors="replace"), 6))


def unpack(document: bytes, cell: Cell) -> CellState:
    """What is known of the cell. Raises Unreadable."""
    text = _inflated(document)
    try:
        return _state(json.loads(text), cell)
    except Unreadable:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"it is no document of a cell: {type(error).__name__}") from error


def _inflated(document: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(document, MAX_DOCUMENT_BYTES)
    except zlib.error as error:
        raise Unreadable("it is not compressed") from error
    if not inflater.eof:
        raise Unreadable("it is cut short, or larger than any")
    return text


def _state(content: Mapping[str, Any], cell: Cell) -> CellState:
    if content["version"] != VERSION:
        raise Unreadable("it is of another version")
    account_id = content["account_id"]
    if account_id and not is_account_id(account_id):
        raise Unreadable("its account is none")
    if cell.key.account_id and account_id != cell.key.account_id:
        raise Unreadable("its account is not the role's")
    place = Place(partition=partition_of_region(cell.key.region), region=cell.key.region, account_id=account_id)
    failure = content["failure"]
    return CellState(
        key=cell.key,
        account_id=account_id,
        known=tuple(known for row in content["known"] if (known := _recalled(row, cell, place)) is not None),
        skipped=tuple(_recalled_skipped(row, cell) for row in content["skipped"]),
        notes=tuple(str(note) for note in content["notes"]),
        last_attempt_at=_read_instant(content["last_attempt_at"]),
        last_success_at=_read_instant(content["last_success_at"]),
        failure=None
        if failure is None
        else Failure(
            reason=Reason(failure["reason"]),
            message=str(failure["message"]),
            at=_read_instant(failure["at"]) or datetime.fromtimestamp(0, UTC),
        ),
        failures=int(content["failures"]),
        seconds=float(content["seconds"]),
    )


def _known(known: Known) -> dict[str, Any]:
    database = known.database
    return {
        "name": database.name,
        "protocol": database.facts.protocol.value,
        "host": database.facts.endpoint.host,
        "port": database.facts.endpoint.port,
        "arn": known.arn,
        "labels": dict(database.facts.labels),
        "ids": dict(database.resource_ids),
        "first_seen_at": _instant(known.first_seen_at),
    }


def _recalled(row: Mapping[str, Any], cell: Cell, place: Place) -> Known | None:
    sighting = Sighting(
        name=str(row["name"]),
        protocol=Protocol(row["protocol"]),
        host=str(row["host"]),
        port=int(row["port"]),
        arn=str(row["arn"]),
        ids={str(key): str(value) for key, value in row["ids"].items()},
    )
    first_seen_at = _read_instant(row["first_seen_at"])
    if first_seen_at is None or judge(sighting, cell.key.product, place) is not None:
        return None
    labels = {str(key): str(value) for key, value in row["labels"].items()}
    return Known(
        database=make(sighting, sighting.name, cell, place, labels), arn=sighting.arn, first_seen_at=first_seen_at
    )


def _skipped(skipped: Skipped) -> dict[str, Any]:
    return {
        "name": skipped.name,
        "arn": skipped.arn,
        "cause": skipped.cause.value,
        "why": skipped.why,
        "target": skipped.target.value if skipped.target else None,
        "tags": dict(skipped.tags) if skipped.target and skipped.tags else None,
    }


def _recalled_skipped(row: Mapping[str, Any], cell: Cell) -> Skipped:
    return Skipped(
        product=cell.key.product,
        name=str(row["name"]),
        arn=str(row["arn"]),
        cause=Cause(row["cause"]),
        why=str(row["why"]),
        target=Target(row["target"]) if row["target"] else None,
        tags={str(key): str(value) for key, value in row["tags"].items()} if row["tags"] else None,
    )


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _read_instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise Unreadable("an instant without a time zone")
    return at.astimezone(UTC)
