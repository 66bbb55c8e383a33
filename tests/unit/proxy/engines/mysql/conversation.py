"""The values that the MySQL tests talk in, and the ways through a login."""

from __future__ import annotations

from proxy.engines.mysql import MysqlEngine
from proxy.model import Door, Location, Outcome, PeerFacts, SealedGrant
from proxy.script import (
    CLIENT,
    UPSTREAM,
    Connect,
    KeepFacts,
    Locate,
    Random,
    RecallFacts,
    RequestGrant,
    Reveal,
    Send,
    StartTls,
)
from tests.support import mysql_bytes as my
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, TlsFacts

ENDPOINT = Endpoint(host="orders.abc.eu-west-1.rds.amazonaws.com", port=3306)
LOCATION = Location(database="orders", endpoint=ENDPOINT, tls=TlsFacts())
WORKLOAD = "spiffe://td/shop"
FACTS = PeerFacts(sni="orders.db", identity=WORKLOAD)
TOKEN = "orders.abc.eu-west-1.rds.amazonaws.com:3306/?Action=connect&DBUser=app"
RANDOM = bytes(range(20))
WARM = my.facts()


def door(**changed: object) -> Door:
    """A loopback listener for one database, with TLS on offer."""
    facts: dict[str, object] = {
        "name": "main",
        "tls_available": True,
        "tls_required": False,
        "workload": WORKLOAD,
        "database": "orders",
    }
    return Door(**(facts | changed))  # type: ignore[arg-type]


def grant(number: int = 1, user: str = "app", location: Location = LOCATION) -> SealedGrant:
    """A grant; its number tells it from others."""
    return SealedGrant(
        location=location, decision_id=f"decision-{number}", credential_id=f"cred-{number}", user=user, reused=False
    )


def asked(db_user: str = "app", rejected: str = "", workload: str = WORKLOAD) -> RequestGrant:
    """What the broker is asked: never for a database name, which a session changes at will."""
    return RequestGrant(workload, "orders", db_user, "", rejected)


def warm(at: Door | None = None, facts: bytes | None = WARM) -> tuple[Playbook[Outcome], bytes]:
    """A client has connected, the server is known. The playbook behind our greeting, and its payload."""
    book: Playbook[Outcome] = Playbook(MysqlEngine().login(at or door()))
    book.expect(Locate("orders"), LOCATION).expect(RecallFacts(find_out=True), facts)
    book.expect(Random(20), RANDOM)
    return book, greeted(book)


def cold(greeting: bytes | None = None, at: Door | None = None) -> tuple[Playbook[Outcome], bytes]:
    """A client has connected, the server is not known: it is dialled, and its greeting kept."""
    book: Playbook[Outcome] = Playbook(MysqlEngine().login(at or door()))
    book.expect(Locate("orders"), LOCATION).expect(RecallFacts(find_out=True), None).expect(Connect())
    book.upstream(my.packet(greeting or my.greeting(), 0))
    book.answer(KeepFacts)
    book.expect(Random(20), RANDOM)
    return book, greeted(book)


def greeted(book: Playbook[Outcome]) -> bytes:
    """Our greeting's payload."""
    said = book.sent(CLIENT)
    assert said[3] == 0
    assert int.from_bytes(said[:3], "little") == len(said) - 4
    return said[4:]


def flags_of(greeting: bytes) -> int:
    """The flags that a greeting offers."""
    at = greeting.index(b"\0", 1) + 14
    return int.from_bytes(greeting[at : at + 2], "little") | int.from_bytes(greeting[at + 5 : at + 7], "little") << 16


def dials(book: Playbook[Outcome], greeting: bytes | None = None) -> Playbook[Outcome]:
    """The script dials, upstream greets."""
    return book.expect(Connect()).upstream(my.packet(greeting or my.greeting(), 0))


def secures(book: Playbook[Outcome]) -> tuple[Playbook[Outcome], bytes]:
    """The script asks upstream for TLS, is shown a good certificate and answers the greeting. What it answered."""
    said = book.sent(UPSTREAM)
    assert len(said) == 36
    assert said[:4] == b"\x20\0\0\1"
    assert int.from_bytes(said[4:8], "little") & my.SSL
    book.expect(StartTls(UPSTREAM), PeerFacts()).expect(Random(32), bytes(range(32)))
    answer = book.sent(UPSTREAM)
    assert answer[3] == 2
    return book, answer[4:]


def shows_token(book: Playbook[Outcome], number: int = 1) -> Playbook[Outcome]:
    """Upstream asks for the token, the script shows it."""
    book.upstream(my.packet(my.ASKS_TOKEN, 3)).expect(Reveal(grant(number)), TOKEN)
    return book.sends(UPSTREAM, my.packet(TOKEN.encode() + b"\0", 4))


def refused(book: Playbook[Outcome], sequence: int) -> tuple[int, str, str]:
    """Code, SQLSTATE and text of the ERR packet that the client is sent, with the number it waits for."""
    said = book.sent(CLIENT)
    assert int.from_bytes(said[:3], "little") == len(said) - 4
    assert said[3] == sequence
    assert said[4] == 0xFF
    assert said[7:8] == b"#"
    return int.from_bytes(said[5:7], "little"), said[8:13].decode(), said[13:].decode()


def nothing_was_shown(book: Playbook[Outcome]) -> None:
    """The script has ended and never asked for a secret."""
    assert not isinstance(book.waiting, Reveal | Send)
