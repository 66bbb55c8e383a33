"""Every RPC has an access row, every row an RPC, and the RPC's comment says what the row says."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2

from broker.api.server import SERVICES
from broker.api.table import ACCESS, Load, Who
from tollbridge.v1 import (
    access_service_pb2,
    catalog_service_pb2,
    credential_service_pb2,
    diagnostics_service_pb2,
    discovery_service_pb2,
    registry_service_pb2,
)

PROTO = Path(__file__).parents[2] / "proto"
OURS = (
    credential_service_pb2,
    catalog_service_pb2,
    access_service_pb2,
    diagnostics_service_pb2,
    discovery_service_pb2,
    registry_service_pb2,
)


def methods() -> dict[str, MethodDescriptor]:
    return {
        f"/{service.full_name}/{method.name}": method
        for module in (*OURS, health_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def comments() -> dict[str, str]:
    """The comment before each `rpc` of our .proto files, by full method."""
    found = {}
    for module in OURS:
        text = (PROTO / module.DESCRIPTOR.name).read_text()
        service = ""
        lines: list[str] = []
        for line in text.splitlines():
            if match := re.match(r"service (\w+) {", line):
                service = f"{module.DESCRIPTOR.package}.{match[1]}"
            if match := re.match(r"\s*rpc (\w+)\(", line):
                found[f"/{service}/{match[1]}"] = " ".join(lines)
            stripped = line.strip()
            lines = [*lines, stripped.removeprefix("//").strip()] if stripped.startswith("//") else []
    return found


def test_the_table_and_the_services_name_the_same_rpcs() -> None:
    assert set(ACCESS) == set(methods())


def test_all_proto_files_with_services_are_looked_at() -> None:
    with_services = {
        str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto") if "\nservice " in path.read_text()
    }
    assert with_services == {module.DESCRIPTOR.name for module in OURS}


def test_every_rpc_comment_says_who_may_call_it_as_the_table_does() -> None:
    told = comments()
    assert set(told) == {name for name in ACCESS if name.startswith("/tollbridge.")}
    for name, comment in told.items():
        match = re.search(r"Who may call: (.*)", comment)
        assert match, f"{name}: no `Who may call:`"
        who = match[1]
        if reference := re.match(r"as (\w+)\.", who):
            who = told[f"{name.rpartition('/')[0]}/{reference[1]}"].partition("Who may call: ")[2]
        assert who.startswith(ACCESS[name].who.value), f"{name}: the comment says {who!r}"


def test_nothing_of_ours_is_open_to_anybody() -> None:
    assert {name for name, row in ACCESS.items() if row.who is Who.ANYBODY} == {
        name for name in ACCESS if name.startswith("/grpc.health.")
    }


def test_streams_count_as_watches_and_calls_as_calls() -> None:
    for name, method in methods().items():
        if method.server_streaming:
            assert ACCESS[name].load is Load.WATCH
        elif name.startswith("/tollbridge."):
            assert ACCESS[name].load is Load.CALL


def test_health_answers_for_every_service() -> None:
    assert set(SERVICES) == {
        service.full_name for module in OURS for service in module.DESCRIPTOR.services_by_name.values()
    }
