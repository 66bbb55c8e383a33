"""Steer a running sandbox's AWS: count its calls, break them, end sessions, read who logged in."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 60.0


class ControlError(Exception):
    """The sandbox did not take the order; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Since the last reset: calls as they arrived ("sts:AssumeRole" -> 3), faulted and refused ones included."""

    calls: dict[str, int]
    assume_role: dict[str, int]
    """AssumeRole calls by role ARN."""
    errors: dict[str, int]
    """Calls that were answered with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One login that a database server asked about. ``why`` is "Allow" or the cause of the refusal."""

    database: str | None
    db_user: str
    ok: bool
    why: str
    access_key_id: str | None
    time: float


@dataclass(frozen=True, slots=True)
class Control:
    """Blocking; every method is one HTTP call to ``World.aws_endpoint``."""

    aws_endpoint: str

    def healthy(self) -> bool:
        try:
            return bool(self._call("GET", "health")["ok"])
        except (ControlError, OSError):
            return False

    def counters(self) -> Counters:
        return Counters(**self._call("GET", "counters"))

    def reset_counters(self) -> None:
        self._call("POST", "counters/reset")

    def inject_fault(
        self,
        mode: str,
        *,
        service: str = "sts",
        action: str = "AssumeRole",
        count: int | None = None,
        delay_seconds: float = 0.0,
        role_arn: str | None = None,
        region: str | None = None,
    ) -> None:
        """``mode``: throttle, error500, delay (by ``delay_seconds``), or hang (until faults are cleared).

        Hits the next ``count`` calls, or all until cleared; ``action`` may be "*"; ``role_arn`` and ``region``
        narrow it further.
        """
        fault = {"service": service, "action": action, "mode": mode, "delay_seconds": delay_seconds}
        if count is not None:
            fault["count"] = count
        if role_arn is not None:
            fault["role_arn"] = role_arn
        if region is not None:
            fault["region"] = region
        self._call("POST", "faults", fault)

    def clear_faults(self) -> None:
        """Also lets go of calls that hang, with a 503."""
        self._call("DELETE", "faults")

    def expire_session(self, *, access_key_id: str | None = None, role_arn: str | None = None) -> int:
        """End the session of a key, or all of a role, as if their time were up. How many were ended."""
        named = {"access_key_id": access_key_id, "role_arn": role_arn}
        return int(self._call("POST", "expire-session", {k: v for k, v in named.items() if v is not None})["expired"])

    def expire_database_users(self) -> None:
        """End every temporary user that Redshift has issued, as if their time were up."""
        self._call("POST", "expire-database-users")

    def shorten_sessions(self, seconds: float | None) -> None:
        """Sessions of AssumeRole from now on live that long, whatever is asked for; None: as AWS has it.

        AWS gives no less than 900 s: this is for seeing in seconds what takes an hour.
        """
        self._call("POST", "session-seconds", {"seconds": seconds})

    def shift_clock(self, seconds: float) -> None:
        """AWS's clock is so far ahead of this machine's from now on (negative: behind); 0 ends it.

        Sessions, signatures and the answers' Date go by it. Whoever signs must shift theirs as far.
        """
        self._call("POST", "clock", {"offset_seconds": seconds})

    def secrets(self) -> list[str]:
        """Every secret access key and session token that was handed out: what must not be found anywhere."""
        return list(self._call("GET", "secrets")["secrets"])

    def put_resources(self, resources: list[dict[str, Any]]) -> None:
        """Into the accounts, as describe calls are to tell of them: see ``estate``. The same name: in place of it."""
        self._call("POST", "inventory/put", {"resources": resources})

    def remove_resources(self, account_id: str, region: str, service: str, operation: str) -> None:
        """All that such a call would list there."""
        place = {"account_id": account_id, "region": region, "service": service, "operation": operation}
        self._call("POST", "inventory/remove", place)

    def logins(self) -> list[Login]:
        """Oldest first."""
        return [Login(**login) for login in self._call("GET", "logins")["logins"]]

    def forget_logins(self) -> None:
        self._call("DELETE", "logins")

    def _call(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the sandbox's own address, http on loopback
            f"{self.aws_endpoint}/_sandbox/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        # Never through a proxy of the environment: this is loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise ControlError(error.read().decode("utf-8", "replace")) from error
        return answer
