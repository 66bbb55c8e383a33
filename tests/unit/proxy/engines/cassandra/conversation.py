"""What the tests of a CQL login say in many places."""

from __future__ import annotations

from dataclasses import replace

from proxy.engines.cassandra import CassandraEngine, proof
from proxy.engines.cassandra.guard import CassandraGuard
from proxy.model import Door, Established, Location, Outcome, PeerFacts, SealedGrant, SocketAddress
from proxy.script import UPSTREAM, Connect, Now, OwnAddress, RequestGrant, RevealKey, StartTls
from tests.support import cql
from tests.support.clock import FakeClock
from tests.support.playbook import Playbook
from tollbridge.model import Endpoint, SigningKey, TlsFacts
from tollbridge.secret import Secret

WORKLOAD = "spiffe://td/shop"
ENDPOINT = Endpoint(host="cassandra.us-west-2.amazonaws.com", port=9142)
LOCATION = Location(database="events", endpoint=ENDPOINT, tls=TlsFacts())
GRANT = SealedGrant(location=LOCATION, decision_id="d-1", credential_id="c-1", user="role/reader", reused=True)
NOW = FakeClock().now()
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
KEY = SigningKey(
    access_key_id="ASIAIOSFODNN7EXAMPLE",
    session_token=Secret(TOKEN),
    region="us-west-2",
    service="cassandra",
    keys={f"{NOW:%Y%m%d}": Secret("ab" * 32)},
)
PROOF = proof.answer(KEY, cql.NONCE, NOW)
HERE = SocketAddress(host="10.1.2.3", packed=b"\x0a\x01\x02\x03", port=9042)
DOOR = Door(
    name="events", tls_available=True, tls_required=False, workload=WORKLOAD, database="events", db_user="role/reader"
)
NAMELESS = replace(DOOR, db_user=None)
BY_NAME = replace(DOOR, db_user=None, database=None, by_login_name=True)

Book = Playbook[Outcome]


def opened(door: Door = DOOR) -> Book:
    """A client that has connected and said nothing."""
    return Playbook(CassandraEngine().login(door))


def asked(db_user: str = "role/reader", rejected: str = "") -> RequestGrant:
    """The question to the broker."""
    return RequestGrant(WORKLOAD, "events", db_user, "", rejected)


def dialled(book: Book, grant: SealedGrant = GRANT, question: RequestGrant | None = None, version: int = 4) -> Book:
    """Granted, connected, verified, and asked for SigV4."""
    book.expect(question or asked(), grant).expect(Connect()).expect(StartTls(UPSTREAM), PeerFacts())
    book.sends(UPSTREAM, cql.startup(version=version)).upstream(cql.authenticate(version=version))
    return book.sends(UPSTREAM, cql.frame(cql.AUTH_RESPONSE, cql.long(cql.SIGV4), version=version))


def proven(book: Book, grant: SealedGrant = GRANT, version: int = 4) -> Book:
    """The nonce has come, and only then the key is opened and the proof sent."""
    book.upstream(cql.challenge(version=version)).expect(RevealKey(grant), KEY).expect(Now(), NOW)
    return book.sends(UPSTREAM, cql.frame(cql.AUTH_RESPONSE, cql.long(PROOF), version=version))


def entered(book: Book, version: int = 4) -> Book:
    """Upstream is content, and the address that the client has reached is known."""
    return book.upstream(cql.success(version=version)).expect(OwnAddress(), HERE)


def done(book: Book) -> Established:
    """The login has succeeded."""
    outcome = book.returns()
    assert isinstance(outcome, Established)
    assert isinstance(outcome.guard, CassandraGuard)
    return outcome
