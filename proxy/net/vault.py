"""Where a login's secrets lie, and the only place from which they leave.

What is asked for is handed out while upstream is on TLS that was verified under that grant's own TLS facts, at that
grant's own endpoint; anything else is a bug of ours.
"""

from __future__ import annotations

from typing import TypeVar

from proxy.errors import LocalFault, PeerViolation, Side
from proxy.model import Location, SealedGrant
from tollbridge.model import Challenge, Credential, SigningKey, StsChallenge, Token

C = TypeVar("C", Token, SigningKey, Challenge)


class Vault:
    """The credentials of one login, each under its sealed grant."""

    def __init__(self) -> None:
        self._held: list[tuple[SealedGrant, Credential]] = []

    def put(self, grant: SealedGrant, credential: Credential) -> None:
        """Keep a credential under the very grant that the script is given."""
        self._held.append((grant, credential))

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()

    def password(self, grant: SealedGrant, verified: Location | None) -> str:
        """Of a token, for the server at `verified`, the place whose certificate was checked. Raises LocalFault."""
        return self._open(grant, verified, Token).password.reveal()

    def signing_key(self, grant: SealedGrant, verified: Location | None) -> SigningKey:
        """Derived keys, for the server at `verified`. Raises LocalFault."""
        return self._open(grant, verified, SigningKey)

    def challenge(self, grant: SealedGrant, verified: Location | None, asked: StsChallenge) -> StsChallenge:
        """What may be asked of the broker for the server at `verified`: what that server asked, for the host pinned.

        Raises PeerViolation when the server names another host: whoever holds a proof for it could be anybody there.
        """
        pinned = self._open(grant, verified, Challenge).host
        if asked.host != pinned:
            raise PeerViolation(
                Side.UPSTREAM,
                f"the server wants a proof for the host {asked.host[:255]!r}, and only {pinned!r} is right",
            )
        return asked

    def _open(self, grant: SealedGrant, verified: Location | None, kind: type[C]) -> C:
        credential = next((credential for known, credential in self._held if known is grant), None)
        if credential is None:
            raise LocalFault("a script reveals a grant that this login was not given")
        if verified is None:
            raise LocalFault("a script reveals a grant before upstream has proved who it is")
        if not same_server(grant.location, verified):
            raise LocalFault("a script reveals a grant to another server than it was given for")
        if not isinstance(credential, kind):
            raise LocalFault(f"a script takes a {type(credential).__name__} for a {kind.__name__}")
        return credential


def same_server(one: Location, other: Location) -> bool:
    """Whether what was verified for the one holds for the other."""
    return (one.endpoint, one.tls) == (other.endpoint, other.tls)
