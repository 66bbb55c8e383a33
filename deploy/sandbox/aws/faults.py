"""Faults to inject into AWS's answers, and the counters of what was asked. No I/O; the caller acts on a fault."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .calls import Call
from .strict import Refusal

MODES = ("throttle", "error500", "delay", "hang")

REFUSALS: Mapping[str, Refusal] = {
    "throttle": Refusal(status=400, code="Throttling", message="Rate exceeded"),
    "error500": Refusal(status=500, code="InternalFailure", message="An internal error has occurred."),
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One injected fault. ``remaining`` None holds until cleared; ``role_arn`` narrows it to calls for that role,
    ``region`` to those signed for that region."""

    service: str
    action: str
    mode: str
    remaining: int | None = None
    delay_seconds: float = 0.0
    role_arn: str | None = None
    region: str | None = None

    def fits(self, call: Call) -> bool:
        return (
            (call.service or call.signed_service) == self.service
            and self.action in ("*", call.action)
            and self.role_arn in (None, call.role_arn)
            and self.region in (None, call.signed_region)
        )


def parse_fault(document: Mapping[str, object]) -> Fault:
    """Raises ValueError with a message for the person who asked."""
    unknown = document.keys() - {"service", "action", "mode", "count", "delay_seconds", "role_arn", "region"}
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    mode, count, delay = document.get("mode"), document.get("count"), document.get("delay_seconds", 0.0)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}")
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ValueError("count must be a positive whole number, or left out to last until cleared")
    if not isinstance(delay, int | float) or delay < 0:
        raise ValueError("delay_seconds must be a number, not negative")
    role_arn, region = document.get("role_arn"), document.get("region")
    return Fault(
        service=str(document.get("service", "sts")),
        action=str(document.get("action", "*")),
        mode=str(mode),
        remaining=count,
        delay_seconds=float(delay),
        role_arn=None if role_arn is None else str(role_arn),
        region=None if region is None else str(region),
    )


@dataclass(slots=True)
class FaultBox:
    """The faults in force, in the order they were put in; the first that fits a call is used up by it."""

    faults: list[Fault] = field(default_factory=list)

    def take(self, call: Call) -> Fault | None:
        for fault in self.faults:
            if fault.fits(call):
                if fault.remaining is not None:
                    fault.remaining -= 1
                    if fault.remaining == 0:
                        self.faults.remove(fault)
                return fault
        return None


@dataclass(slots=True)
class Counters:
    """Calls as they arrived, faulted and refused ones included; errors as they were answered."""

    calls: Counter[str] = field(default_factory=Counter)
    assume_role: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def arrived(self, call: Call) -> None:
        self.calls[call.name] += 1
        if call.name == "sts:AssumeRole":
            self.assume_role[call.role_arn or ""] += 1

    def answered(self, call: Call, status: int) -> None:
        if status >= 400:
            self.errors[call.name] += 1

    def snapshot(self) -> dict[str, dict[str, int]]:
        return {"calls": dict(self.calls), "assume_role": dict(self.assume_role), "errors": dict(self.errors)}

    def reset(self) -> None:
        for counter in (self.calls, self.assume_role, self.errors):
            counter.clear()
