"""One protocol per listener: a database that speaks another is refused before anything is asked or dialled.

The catalog knows what every database speaks. Without this check a listener that leads to the wrong database (one line
of YAML, or a login name) would have its clients and a foreign server talk past each other until a deadline.
"""

from __future__ import annotations

from typing import Protocol

from proxy.errors import Refused
from proxy.model import Location, SealedGrant
from proxy.net.services import Grants
from tollbridge.model import Credential, Database, StsChallenge, StsProof
from tollbridge.reasons import Reason


class Known(Protocol):
    """What this module needs of `proxy.catalog.Catalog`."""

    def known(self, name: str) -> Database | None:
        """A database's row, if it is in the list."""
        ...

    def locate(self, name: str) -> Location:
        """Where a database is. Raises Refused."""
        ...


class OneProtocol:
    """The catalog and the grants as listeners of one protocol see them: `proxy.net`'s `Catalog` and `Grants`.

    What the catalog does not know (its first list is still coming) is for the broker to decide.
    """

    def __init__(self, protocol: str, catalog: Known, grants: Grants) -> None:
        self._protocol = protocol
        self._catalog = catalog
        self._grants = grants

    def locate(self, database: str) -> Location:
        """Where a database is. Raises Refused."""
        self._check(database)
        return self._catalog.locate(database)

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        """A grant and its credential, apart. Raises Refused."""
        self._check(database)
        return await self._grants.request(
            workload=workload, database=database, db_user=db_user, db_name=db_name, rejected=rejected
        )

    async def sign_challenge(
        self, *, workload: str, database: str, db_user: str, db_name: str, challenge: StsChallenge
    ) -> StsProof:
        """The proof that a server asks for. Raises Refused."""
        self._check(database)
        return await self._grants.sign_challenge(
            workload=workload, database=database, db_user=db_user, db_name=db_name, challenge=challenge
        )

    def _check(self, name: str) -> None:
        database = self._catalog.known(name)
        if database is not None and database.protocol != self._protocol:
            raise Refused(
                Reason.INVALID_REQUEST,
                f"this listener speaks {self._protocol}, and database {name!r} speaks {database.protocol}: connect to "
                f"a {database.protocol} listener with a client for it, or name another database",
            )
