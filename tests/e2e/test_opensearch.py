"""opensearch-py to a domain and to a serverless collection of another account, through a proxy without a secret key."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final
from uuid import uuid4

import pytest
import urllib3
from opensearchpy import OpenSearch, RequestsAWSV4SignerAuth, helpers
from opensearchpy.exceptions import AuthorizationException, ConflictError, NotFoundError, TransportError

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from tests.e2e.http_clients import USER, authorization, dummy_session

BULK_BYTES: Final = 50_000_000
"""Hexadecimal noise, each piece twice: gzip makes a good quarter of it, which fits into the proxy's memory."""
SCROLL_DOCUMENTS, SCROLL_BYTES = 1_100, 100_000
"""Together more than 100 MB."""


def search(bridge: Bridge, user: str = USER, *, database: str = "search", **more: Any) -> OpenSearch:
    """opensearch-py, signing with keys that mean nothing."""
    credentials = dummy_session(user).get_credentials()
    service = "es" if database == "search" else "aoss"
    return OpenSearch(
        hosts=[{"host": "127.0.0.1", "port": bridge.ports[database]}],
        http_auth=RequestsAWSV4SignerAuth(credentials, topology.REGION, service),
        connection_class=requests_connection(),
        max_retries=0,
        timeout=90,
        **more,
    )


def requests_connection() -> Any:
    """The connection class whose signer it is."""
    from opensearchpy import RequestsHttpConnection

    return RequestsHttpConnection


@pytest.fixture
def index(http_bridge: Bridge) -> Iterator[str]:
    """A name of its own for a test."""
    name = f"test-{uuid4()}"
    yield name
    search(http_bridge).indices.delete(index=f"{name}*")


@pytest.mark.parametrize("database", ["search", "serverless-search"])
def test_documents_are_made_found_changed_and_removed(http_bridge: Bridge, index: str, database: str) -> None:
    client = search(http_bridge, database=database)
    client.index(index=index, id="1", body={"title": "Metropolis", "year": 1927}, refresh=True)
    assert client.exists(index=index, id="1")
    assert not client.exists(index=index, id="2")
    assert client.search(index=index, body={"query": {"match": {"title": "metropolis"}}})["hits"]["total"]["value"] == 1
    client.update(index=index, id="1", body={"doc": {"year": 1928}})
    assert client.get(index=index, id="1")["_source"] == {"title": "Metropolis", "year": 1928}
    client.delete(index=index, id="1")
    with pytest.raises(NotFoundError):
        client.get(index=index, id="1")


def test_the_servers_own_errors_arrive_as_they_are(http_bridge: Bridge, index: str) -> None:
    client = search(http_bridge)
    client.index(index=index, id="1", body={})
    with pytest.raises(ConflictError):
        client.create(index=index, id="1", body={})
    with pytest.raises(TransportError) as caught:
        client.search(index=index, body={"query": {"no_such_query": {}}})
    assert (caught.value.status_code, caught.value.error) == (400, "parsing_exception")


NAMES: Final = (
    "{index}-*",
    "{index}-one,{index}-two",
    "{index}-*,-{index}-two",
    "{index}-*, {index}-two",
    "<{index}-{{now/d}}>",
    "{index}-one,no such*",
)


@pytest.mark.parametrize("name", NAMES)
def test_index_names_with_stars_commas_spaces_and_dates(http_bridge: Bridge, index: str, name: str) -> None:
    client = search(http_bridge)
    for part in ("one", "two"):
        client.index(index=f"{index}-{part}", id="1", body={"part": part}, refresh=True)
    client.index(index=f"<{index}-{{now/d}}>", id="1", body={"part": "today"}, refresh=True)
    expanded = name.format(index=index)
    found = client.search(index=expanded, params={"ignore_unavailable": "true"})["hits"]["hits"]
    wanted = {
        "{index}-*": {"one", "two", "today"},
        "{index}-*,-{index}-two": {"one", "today"},
        "{index}-*, {index}-two": {"one", "two", "today"},
        "<{index}-{{now/d}}>": {"today"},
        "{index}-one,no such*": {"one"},
    }.get(name, {"one", "two"})
    assert {hit["_source"]["part"] for hit in found} == wanted


@pytest.mark.parametrize("document_id", ["a b", "a/b", "a+b", "a%b", "ä&=?#", "*", "~-_.!'()"])
def test_ids_with_every_kind_of_character(http_bridge: Bridge, index: str, document_id: str) -> None:
    client = search(http_bridge)
    client.index(index=index, id=document_id, body={"is": document_id})
    assert client.get(index=index, id=document_id)["_id"] == document_id
    assert client.get(index=index, id=document_id)["_source"] == {"is": document_id}


@pytest.mark.parametrize("query", ["a b", "a+b", "title:x AND y:[1 TO 2]", "ü&=?#*,/", "100%"])
def test_queries_with_every_kind_of_character(http_bridge: Bridge, index: str, query: str) -> None:
    client = search(http_bridge)
    client.index(index=index, id="1", body={"title": "x"}, refresh=True)
    escaped = query if "title:" in query else f'"{query}"'
    assert client.search(index=index, q=escaped)["timed_out"] is False


def bulk(client: OpenSearch, index: str) -> int:
    """Some 50 MB into an index that keeps them and looks at nothing. How many documents."""
    noise, each = Random(4).randbytes(BULK_BYTES // 4).hex(), 2_500
    lines = [json.dumps({"noise": noise[at : at + each] * 2}) for at in range(0, len(noise), each)]
    body = "".join(f'{{"index":{{}}}}\n{line}\n' for line in lines)
    assert len(body) >= BULK_BYTES
    client.indices.create(
        index=index,
        body={"settings": {"number_of_replicas": 0, "refresh_interval": "-1"}, "mappings": {"enabled": False}},
    )
    answer = client.bulk(index=index, body=body)
    assert answer["errors"] is False
    assert len(answer["items"]) == len(lines)
    client.indices.refresh(index=index)
    return len(lines)


def test_a_bulk_of_50_megabytes_in_gzip_passes(http_bridge: Bridge, index: str) -> None:
    client = search(http_bridge, http_compress=True)
    documents = bulk(client, index)
    assert client.count(index=index)["count"] == documents


@pytest.mark.parametrize("database", ["search", "serverless-search"])
def test_a_bulk_larger_than_what_is_kept_in_memory_passes(http_bridge: Bridge, index: str, database: str) -> None:
    """To a domain through a file, because its hash must be signed; to a collection straight on, because it need not."""
    before = http_bridge.proxy.resident_bytes()
    client = search(http_bridge, database=database)
    documents = bulk(client, index)
    assert client.count(index=index)["count"] == documents
    assert http_bridge.proxy.resident_bytes() - before < BULK_BYTES // 2
    assert list((http_bridge.directory / "spool").iterdir()) == [], "nothing is left on disk, not even a name"


def test_a_scroll_of_more_than_100_megabytes_passes_and_large_pages_too(http_bridge: Bridge, index: str) -> None:
    client = search(http_bridge)
    client.indices.create(index=index, body={"settings": {"number_of_replicas": 0}, "mappings": {"enabled": False}})
    filler = "x" * SCROLL_BYTES
    documents = ({"_index": index, "_id": str(n), "fill": filler} for n in range(SCROLL_DOCUMENTS))
    helpers.bulk(client, documents, chunk_size=200, max_chunk_bytes=30_000_000, refresh=True)
    total, pages = 0, 0
    page = client.search(index=index, scroll="1m", size=600)
    while hits := page["hits"]["hits"]:
        pages += 1
        total += sum(len(hit["_source"]["fill"]) for hit in hits)
        page = client.scroll(scroll_id=page["_scroll_id"], scroll="1m")
    assert (pages, total) == (2, SCROLL_DOCUMENTS * SCROLL_BYTES)
    client.clear_scroll(scroll_id=page["_scroll_id"])


def test_an_answer_in_gzip_stays_so(http_bridge: Bridge, index: str) -> None:
    search(http_bridge).index(index=index, id="1", body={"fill": "x" * 10_000})
    answer = raw(http_bridge, "GET", f"/{index}/_doc/1", {"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.data))["_source"]["fill"] == "x" * 10_000


def test_head_answers_without_a_body_and_the_connection_lives_on(http_bridge: Bridge, index: str) -> None:
    search(http_bridge).index(index=index, id="1", body={})
    with urllib3.HTTPConnectionPool("127.0.0.1", http_bridge.ports["search"], maxsize=1) as pool:
        headers = {"Authorization": authorization()}
        for path, status in ((f"/{index}/_doc/1", 200), (f"/{index}/_doc/2", 404), (f"/{index}", 200)):
            assert pool.request("HEAD", path, headers=headers, retries=False).status == status
        assert pool.request("GET", f"/{index}/_doc/1", headers=headers, retries=False).json()["found"] is True
        assert pool.num_connections == 1


def test_a_reader_may_read_and_hears_from_the_service_when_it_may_not(http_bridge: Bridge, index: str) -> None:
    search(http_bridge).index(index=index, id="1", body={})
    reader = search(http_bridge, "role/ReaderRole")
    assert reader.exists(index=index, id="1")
    with pytest.raises(AuthorizationException, match="es:ESHttpPut"):
        reader.index(index=index, id="2", body={})


def test_a_user_that_no_rule_allows_hears_why(http_bridge: Bridge) -> None:
    with pytest.raises(AuthorizationException, match="role/NobodysRole"):
        search(http_bridge, "role/NobodysRole").info()


def raw(bridge: Bridge, method: str, path: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    """An answer as it is on the wire."""
    with urllib3.PoolManager() as pool:
        return pool.request(
            method,
            f"http://127.0.0.1:{bridge.ports['search']}{path}",
            headers={"Authorization": authorization(), **headers},
            retries=False,
            decode_content=False,
        )
