"""Faults hit the calls they are meant for, as often as asked; counters count what arrived."""

import pytest

from deploy.sandbox.aws.calls import Call
from deploy.sandbox.aws.faults import Counters, Fault, FaultBox, parse_fault


def call(action: str = "AssumeRole", role_arn: str = "arn:role-one") -> Call:
    return Call(
        service="sts",
        action=action,
        access_key_id="AKIA",
        signed_service="sts",
        is_json=False,
        parameters={"RoleArn": role_arn},
    )


def test_a_counted_fault_is_used_up() -> None:
    box = FaultBox([parse_fault({"service": "sts", "action": "AssumeRole", "mode": "throttle", "count": 2})])
    taken = [box.take(call()) is not None for _ in range(3)]
    assert taken == [True, True, False]
    assert box.faults == []


def test_an_uncounted_fault_stays() -> None:
    box = FaultBox([parse_fault({"action": "*", "mode": "error500"})])
    assert all(box.take(call(action)) is not None for action in ("AssumeRole", "GetCallerIdentity") * 5)


def test_a_fault_passes_over_other_calls() -> None:
    fault = Fault(service="sts", action="AssumeRole", mode="throttle", remaining=1, role_arn="arn:role-two")
    box = FaultBox([fault])
    assert box.take(call()) is None
    assert box.take(call("GetCallerIdentity", "arn:role-two")) is None
    assert box.take(call(role_arn="arn:role-two")) is fault


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"mode": "explode"}, "mode must be one of"),
        ({}, "mode must be one of"),
        ({"mode": "delay", "delay_seconds": -1}, "delay_seconds"),
        ({"mode": "throttle", "count": 0}, "count"),
        ({"mode": "throttle", "times": 3}, "unknown keys: times"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(document: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_fault(document)


def test_counters_tell_roles_apart_and_start_again() -> None:
    counters = Counters()
    for role_arn in ("arn:role-one", "arn:role-one", "arn:role-two"):
        counters.arrived(call(role_arn=role_arn))
    counters.answered(call(), 403)
    counters.answered(call(), 200)
    assert counters.snapshot() == {
        "calls": {"sts:AssumeRole": 3},
        "assume_role": {"arn:role-one": 2, "arn:role-two": 1},
        "errors": {"sts:AssumeRole": 1},
    }
    counters.reset()
    assert counters.snapshot() == {"calls": {}, "assume_role": {}, "errors": {}}
