"""The enum and its twin on the wire are one, and every reason has its row."""

from __future__ import annotations

import grpc
import pytest

from broker.api.status import status_of
from broker.errors import BrokerError
from tollbridge.reasons import ROWS, Code, Reason
from tollbridge.v1 import reason_pb2


def test_the_enum_equals_the_contract() -> None:
    wire = {name.removeprefix("REASON_") for name in reason_pb2.Reason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert wire == {reason.value for reason in Reason}
    assert all(reason.name == reason.value for reason in Reason)


def test_every_reason_has_a_row_and_no_row_is_without_reason() -> None:
    assert set(ROWS) == set(Reason)


def test_every_code_is_one_of_grpc() -> None:
    assert {code.value for code in Code} <= set(grpc.StatusCode.__members__)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_becomes_a_status(reason: Reason) -> None:
    status = status_of(BrokerError(reason, "why"))
    assert status.code.name == ROWS[reason].code
    assert status.details == "why"


def test_what_withdraws_grants_is_never_retryable_and_the_other_way_round() -> None:
    for reason, row in ROWS.items():
        if row.retryable:
            assert row.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED), reason
        else:
            assert row.code not in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED), reason
