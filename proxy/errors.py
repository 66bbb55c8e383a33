"""What can go wrong on a proxied connection, in four kinds. PURE.

`Refused` is an outcome: somebody decided, or a side could not be reached; it has a Reason and a message that names the
fix. `PeerViolation` is the remote's fault: it broke its protocol. `PeerClosed` is a peer that went away in the middle.
`LocalFault` is our own bug. Parsers raise PeerViolation and nothing else.
"""

from __future__ import annotations

from enum import StrEnum

from tollbridge.reasons import OPERATORS_ONLY, Reason


class Side(StrEnum):
    """The two sides of a proxied connection."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class Refused(Exception):
    """A login or session that ends by decision. The engine says it to the client in the database's own encoding."""

    def __init__(self, reason: Reason, message: str, *, decision_id: str = "") -> None:
        super().__init__(message)
        # Engines have a word for every reason a login can end with; a broker that gives another is not understood.
        self.reason = Reason.INTERNAL if reason in OPERATORS_ONLY else reason
        self.message = message
        """For the client: one sentence of what, one of how to fix it. Never holds a secret."""
        self.decision_id = decision_id


class PeerViolation(Exception):
    """The peer on `side` broke its protocol."""

    def __init__(self, side: Side, message: str) -> None:
        super().__init__(message)
        self.side = side
        self.message = message

    def as_refusal(self) -> Refused:
        """The same fact as an outcome for the client."""
        reason = Reason.CLIENT_PROTOCOL if self.side is Side.CLIENT else Reason.UPSTREAM_PROTOCOL
        return Refused(reason, self.message)


class PeerClosed(PeerViolation):
    """The peer on `side` closed the connection in the middle of a conversation."""

    def __init__(self, side: Side, message: str = "") -> None:
        super().__init__(side, message or f"the {side} closed the connection during login")

    def as_refusal(self) -> Refused:
        reason = Reason.CLIENT_PROTOCOL if self.side is Side.CLIENT else Reason.UPSTREAM_CLOSED
        return Refused(reason, self.message)


class LocalFault(Exception):
    """A rule of this program was broken by this program."""
