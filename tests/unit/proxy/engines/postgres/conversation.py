"""The bytes and values that the Postgres tests talk in."""

from __future__ import annotations

import struct

from proxy.engines.postgres import PostgresEngine, wire
from proxy.engines.postgres.upstream import ALPN
from proxy.model import Door, Location, Outcome, PeerFacts, SealedGrant
from proxy.script import CLIENT, UPSTREAM, Connect, RequestGrant, Reveal, StartTls
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, TlsFacts

ENDPOINT = Endpoint(host="orders.abc.eu-west-1.rds.amazonaws.com", port=5432)
LOCATION = Location(database="orders", endpoint=ENDPOINT, tls=TlsFacts())
WORKLOAD = "spiffe://td/shop"
FACTS = PeerFacts(sni="orders.db", alpn="postgresql", identity=WORKLOAD)
TOKEN = "orders.abc.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app"
SSL = bytes.fromhex("0000000804d2162f")
GSSENC = bytes.fromhex("0000000804d21630")
READY = b"Z\0\0\0\5I"
KEY = struct.pack("!II", 4242, 0xDEADBEEF)


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


def startup(*pairs: tuple[str, str], version: int = 0x30000) -> bytes:
    """A StartupMessage, built without the codec under test."""
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs) + b"\0"
    return struct.pack("!II", len(body) + 8, version) + body


def message(kind: bytes, body: bytes) -> bytes:
    """A typed message, built without the codec under test."""
    return kind + struct.pack("!I", len(body) + 4) + body


def asks(code: int, data: bytes = b"") -> bytes:
    """An Authentication request."""
    return message(b"R", struct.pack("!I", code) + data)


def error(sqlstate: str, text: str) -> bytes:
    """An ErrorResponse as a server sends it."""
    return message(b"E", f"SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0\0".encode())


GREETING = (
    asks(0)
    + message(b"S", b"server_version\x0015.20\0")
    + message(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
    + message(b"K", KEY)
    + READY
)
LOGIN = startup(("user", "app"), ("database", "shop"))


def grant(number: int = 1, user: str = "app") -> SealedGrant:
    """A grant; its number tells it from others."""
    return SealedGrant(
        location=LOCATION, decision_id=f"decision-{number}", credential_id=f"cred-{number}", user=user, reused=False
    )


def asked(db_user: str = "app", db_name: str = "shop", rejected: str = "", workload: str = WORKLOAD) -> RequestGrant:
    """What the broker is asked."""
    return RequestGrant(workload, "orders", db_user, db_name, rejected)


def opened(at: Door | None = None) -> Playbook[Outcome]:
    """A client has just connected."""
    return Playbook(PostgresEngine().login(at or door()))


def dials(book: Playbook[Outcome]) -> Playbook[Outcome]:
    """The script dials, and upstream agrees to TLS and shows a good certificate."""
    book.expect(Connect()).sends(UPSTREAM, SSL).upstream(b"S")
    return book.expect(StartTls(UPSTREAM, ALPN), PeerFacts())


def reaches_upstream(book: Playbook[Outcome], packet: bytes = LOGIN) -> Playbook[Outcome]:
    """A plaintext client asks, is allowed, and its startup packet has gone upstream."""
    book.client(packet).expect(asked(), grant())
    return dials(book).sends(UPSTREAM, packet)


def shows_token(book: Playbook[Outcome], number: int = 1) -> Playbook[Outcome]:
    """Upstream asks for the password, the script shows it."""
    book.upstream(asks(3)).expect(Reveal(grant(number)), TOKEN)
    return book.sends(UPSTREAM, message(b"p", TOKEN.encode() + b"\0"))


def native(data: bytes) -> dict[str, str]:
    """The fields of one ErrorResponse."""
    assert data[:1] == b"E"
    assert int.from_bytes(data[1:5], "big") == len(data) - 1
    return wire.error_fields(data[5:], CLIENT)
