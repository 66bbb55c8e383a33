"""The one refusal that sessions can mend themselves."""

from __future__ import annotations

from broker.errors import BrokerError


class SessionGone(BrokerError):
    """AWS no longer knows the keys that signed a call: expired, or their role was deleted. A `Sts` raises it.

    Whoever holds the session drops it and gets another; only when that fails as well does the caller see this.
    """
