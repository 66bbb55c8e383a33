"""A listener leads only to databases of its own protocol, and says so natively when it is pointed elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.engines import ENGINES
from proxy.engines.postgres import wire
from proxy.errors import Refused
from proxy.model import Location, SealedGrant
from proxy.protocols import OneProtocol
from proxy.script import CLIENT
from tests.contract.house import House, database
from tests.support import cql, mongo
from tests.support.proofs import NoProofs
from tests.unit.proxy.whole import startup, whole
from tollbridge.model import Credential, Database, Product, Protocol, Token
from tollbridge.reasons import Reason
from tollbridge.secret import Secret

LEDGER = database("ledger", protocol=Protocol.MYSQL)
ORDERS = database("orders")


def location(row: Database) -> Location:
    return Location(database=row.name, endpoint=row.endpoint, tls=row.tls)


class List:
    """A catalog of two."""

    def known(self, name: str) -> Database | None:
        return {"ledger": LEDGER, "orders": ORDERS}.get(name)

    def locate(self, name: str) -> Location:
        return location(self.known(name) or ORDERS)


class Grants(NoProofs):
    """Everybody may."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def request(
        self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
    ) -> tuple[SealedGrant, Credential]:
        self.asked.append(database)
        grant = SealedGrant(
            location=location(ORDERS), decision_id="d", credential_id="c", user=db_user, reused=bool(rejected)
        )
        return grant, Token(user=db_user, password=Secret("s"))


ASK = {"workload": "w", "db_user": "u", "db_name": "", "rejected": ""}


async def test_a_database_of_another_protocol_is_not_asked_for() -> None:
    """Neither the broker nor the catalog's address is reached; the message says both protocols and the way out."""
    grants = Grants()
    subject = OneProtocol("postgres", List(), grants)
    with pytest.raises(Refused) as caught:
        await subject.request(database="ledger", **ASK)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert "speaks postgres, and database 'ledger' speaks mysql: connect to a mysql listener" in caught.value.message
    with pytest.raises(Refused, match="speaks mysql"):
        subject.locate("ledger")
    assert grants.asked == []


async def test_its_own_protocol_and_what_nobody_has_heard_of_go_through() -> None:
    grants = Grants()
    subject = OneProtocol("postgres", List(), grants)
    await subject.request(database="orders", **ASK)
    await subject.request(database="not-listed-yet", **ASK)
    assert grants.asked == ["orders", "not-listed-yet"]
    assert subject.locate("orders") == location(ORDERS)


def at_the_ledger(document: dict[str, Any]) -> None:
    document["listeners"][0]["database"] = "ledger"


@pytest.mark.parametrize("user", ["app", "app@ledger"])
async def test_a_postgres_client_at_a_mysql_database_reads_a_postgres_error(
    house: House, tmp_path: Path, user: str
) -> None:
    """Whether the listener or the login name leads there; the audit line names the database."""
    house.register(database("ledger", protocol=Protocol.MYSQL, product=Product.RDS))
    async with house.serving(), whole(house, tmp_path, change=at_the_ledger) as proxy:
        _, said = await proxy.login(user, "names" if "@" in user else "app")
        fields = wire.error_fields(said[1:], CLIENT)
    assert fields["C"] == "22023"
    assert "database 'ledger' speaks mysql" in fields["M"]
    assert house.grants.asked == []
    assert proxy.lines()[-1]["database"] == "ledger"


FIRST_WORDS = {
    "cassandra": cql.startup(),
    "mongodb": mongo.op_msg({"ping": 1, "$db": "admin"}),
    "mysql": b"",
    "postgres": startup(user="app", database="shop"),
    "redis": b"PING\r\n",
}
"""What a client of each protocol says before it hears anything."""


@pytest.mark.parametrize("protocol", ENGINES)
async def test_clients_of_every_protocol_read_it_in_their_own_words(
    house: House, tmp_path: Path, protocol: str
) -> None:
    """A listener of that protocol, pointed at a database that speaks OpenSearch's. Nobody is asked or dialled."""
    house.register(database("search", protocol=Protocol.OPENSEARCH, product=Product.OPENSEARCH))

    def change(document: dict[str, Any]) -> None:
        document["listeners"][0] |= {"protocol": protocol, "database": "search", "db_user": "app"}

    async with house.serving(), whole(house, tmp_path, change=change) as proxy:
        client = await proxy.dial()
        await client.send(FIRST_WORDS[protocol])
        said = await client.to_end()
    assert f"speaks {protocol}, and database 'search' speaks opensearch".encode() in said
    assert house.grants.asked == []
    assert proxy.lines()[-1]["reason"] == Reason.INVALID_REQUEST
