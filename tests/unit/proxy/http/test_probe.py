"""`check` against services that sign each request: one question, and what its answer shows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.engines import HTTP_ENGINES
from proxy.errors import Refused
from proxy.http.bodies import LAST_CHUNK, chunk
from proxy.http.probe import probe
from proxy.model import Location, PeerFacts, SealedGrant
from proxy.script import UPSTREAM, Connect, Now, RequestGrant, RevealKey, Send, StartTls
from tests.support.playbook import Playbook
from tests.unit.proxy.test_sigv4 import signing_key
from tollbridge.model import Endpoint, TlsFacts
from tollbridge.reasons import Reason

HOST = "search-shop-abc.us-west-1.es.amazonaws.com"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
EXPIRED = b'{"message":"The security token included in the request is expired"}'


def granted(book: Playbook[str], rejected: str = "", credential: str = "c1", *, service: str = "es") -> SealedGrant:
    """Up to the question on the wire."""
    location = Location(database="shop", endpoint=Endpoint(host=HOST, port=443), tls=TlsFacts())
    grant = SealedGrant(location=location, decision_id="d1", credential_id=credential, user="reader", reused=False)
    asked = RequestGrant(workload="w", database="shop", db_user="reader", db_name="", rejected=rejected)
    book.expect(asked, grant).expect(Connect()).expect(StartTls(UPSTREAM, ("http/1.1",)), PeerFacts())
    book.expect(RevealKey(grant), signing_key(service))
    return grant


def start(protocol: str = "opensearch") -> Playbook[str]:
    """A probe that has said nothing yet."""
    return Playbook(probe(HTTP_ENGINES[protocol], workload="w", database="shop", db_user="reader", db_name=""))


def sent(book: Playbook[str]) -> bytes:
    """The request."""
    book.expect(Now(), NOW)
    assert isinstance(book.waiting, Send)
    data = book.waiting.data
    book.expect(book.waiting)
    return data


def said(status: int, body: bytes = b"{}") -> bytes:
    """An answer."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (said(200), "signature accepted"),
        (said(404), "serverless"),
        (said(403, b'{"Message":"User: x is not authorized to perform: es:ESHttpGet"}'), "does not need"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + said(200), "signature accepted"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"{}") + LAST_CHUNK, "accepted"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "accepted"),
    ],
)
def test_what_lets_us_in(answer: bytes, word: str) -> None:
    """A role need not be allowed to read the root: that it was known is enough."""
    book = start()
    granted(book)
    request = sent(book)
    assert request.startswith(b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n")
    assert b"Credential=ASIAIOSFODNN7EXAMPLE/20260115/us-west-1/es/aws4_request" in request
    book.upstream(answer)
    assert word in book.returns()
    assert book.notes == {"step": "login"}


def test_dynamodb_is_asked_for_its_endpoints() -> None:
    """A permission of its own, which says nothing of any table."""
    book = start("dynamodb")
    granted(book, service="dynamodb")
    assert b"DynamoDB_20120810.DescribeEndpoints" in sent(book)
    book.upstream(said(400, b'{"__type":"x#AccessDeniedException","message":"no"}'))
    assert "does not need" in book.returns()


def test_a_refused_signature_is_tried_once_more() -> None:
    """The broker hears of it, and may know why."""
    book = start()
    granted(book)
    sent(book)
    book.upstream(said(403, EXPIRED))
    granted(book, rejected="c1", credential="c2")
    sent(book)
    book.upstream(said(403, EXPIRED))
    refused = book.raises(Refused)
    assert refused.reason is Reason.DATABASE_REFUSED
    assert "a fresh one too" in refused.message


@pytest.mark.parametrize("answer", [said(500), said(403, b"<html>")])
def test_what_is_no_answer_of_the_service(answer: bytes) -> None:
    """It says what came."""
    book = start()
    granted(book)
    sent(book)
    book.upstream(answer)
    assert book.raises(Refused).reason is Reason.DATABASE_REFUSED


def test_a_key_for_another_service_is_not_used() -> None:
    """Nothing is sent."""
    book = start()
    granted(book, service="cassandra")
    assert book.raises(Refused).reason is Reason.PRODUCT_UNSUPPORTED
