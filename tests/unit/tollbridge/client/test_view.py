from __future__ import annotations

import pytest

from tests.contract.house import database
from tollbridge.client import Delete, Event, PolicyChanged, Synced, Upsert
from tollbridge.client.channel import resolve_target
from tollbridge.client.view import View
from tollbridge.v1 import catalog_service_pb2 as pb
from tollbridge.v1 import database_pb2


def entry(name: str, region: str = "eu-central-1") -> database_pb2.Database:
    from broker.api import convert

    return convert.database(database(name, region=region))


def upsert(name: str, region: str = "eu-central-1", version: str = "p1") -> pb.WatchDatabasesResponse:
    return pb.WatchDatabasesResponse(upsert=entry(name, region), policy_version=version)


def synced(version: str = "p1") -> pb.WatchDatabasesResponse:
    return pb.WatchDatabasesResponse(synced=pb.Synced(), policy_version=version)


def delete(name: str) -> pb.WatchDatabasesResponse:
    return pb.WatchDatabasesResponse(delete=name, policy_version="p1")


def stream(view: View, *messages: pb.WatchDatabasesResponse) -> list[Event]:
    view.begin()
    return [event for message in messages for event in view.apply(message)]


def test_a_first_stream_is_told_as_it_comes() -> None:
    view = View()
    events = stream(view, upsert("a"), synced(), upsert("b"), delete("a"))
    assert events == [Upsert(database("a"), "p1"), Synced("p1"), Upsert(database("b"), "p1"), Delete("a", "p1")]
    assert view.whole


def test_a_second_stream_is_told_as_differences() -> None:
    view = View()
    stream(view, upsert("a"), upsert("b"), upsert("c"), synced())
    events = stream(view, upsert("b"), upsert("c", "us-east-1"), synced("p2"))
    assert events == [
        Upsert(database("c", region="us-east-1"), "p1"),
        Delete("a", "p2"),
        PolicyChanged("p2"),
    ]


def test_a_stream_that_never_got_whole_deletes_nothing() -> None:
    view = View()
    stream(view, upsert("a"), synced())
    assert stream(view, upsert("b")) == [Upsert(database("b"), "p1")]
    assert not view.whole
    assert stream(view, upsert("b"), synced()) == [Delete("a", "p1")]


def test_a_policy_change_is_told_once() -> None:
    view = View()
    changed = pb.WatchDatabasesResponse(policy_changed=pb.PolicyChanged(), policy_version="p2")
    assert stream(view, synced(), changed, changed, upsert("a", version="p2")) == [
        Synced("p1"),
        PolicyChanged("p2"),
        Upsert(database("a"), "p2"),
    ]


@pytest.mark.parametrize(
    "message",
    [delete("never seen"), pb.WatchDatabasesResponse(), pb.WatchDatabasesResponse(upsert=database_pb2.Database())],
)
def test_what_means_nothing_is_no_event(message: pb.WatchDatabasesResponse) -> None:
    assert stream(View(), message) == []


@pytest.mark.parametrize(
    ("target", "plaintext", "address"),
    [
        ("broker.example:7443", False, "dns:///broker.example:7443"),
        ("dns:///broker.example:7443", False, "dns:///broker.example:7443"),
        ("[::1]:7443", True, "dns:///[::1]:7443"),
        ("localhost:1", True, "dns:///localhost:1"),
        ("unix:/run/b.sock", True, "unix:/run/b.sock"),
        ("ipv4:127.0.0.1:5", True, "ipv4:127.0.0.1:5"),
        ("xds:///broker", False, "xds:///broker"),
    ],
)
def test_targets(target: str, plaintext: bool, address: str) -> None:
    assert resolve_target(target, plaintext=plaintext) == address


@pytest.mark.parametrize("target", ["https://broker.example:7443", "grpc://broker:1", "broker", "broker:", ":7443"])
def test_an_address_of_another_form_is_refused_before_it_is_dialled(target: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        resolve_target(target, plaintext=False)
