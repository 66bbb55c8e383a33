"""Who is let in, who is not, and what the refused are told."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.contract.house import APP, House, PlaintextListener
from tests.support.ca import TestCa
from tollbridge.client import Client, RpcFailed
from tollbridge.reasons import Reason


async def test_a_spiffe_uri_is_the_caller_and_the_workload(house: House) -> None:
    async with house.serving(), house.client() as client:
        await client.issue_credential("orders", "app")
    (request,) = house.grants.asked
    assert (request.caller, request.workload) == (APP, APP)


async def test_a_proxy_names_its_workload(house: House) -> None:
    async with house.serving(), house.client() as client:
        await client.issue_credential("orders", "app", "sales", workload="spiffe://td.example/web", rejected="c-0")
    (request,) = house.grants.asked
    assert (request.caller, request.workload) == (APP, "spiffe://td.example/web")
    assert (request.db_name, request.rejected) == ("sales", "c-0")


async def test_dns_names_beside_the_uri_do_not_count(house: House) -> None:
    async with house.serving(), house.client(house.identity(APP, "app.example", "10.0.0.1")) as client:
        await client.issue_credential("orders", "app")
    assert house.grants.asked[0].caller == APP


@pytest.mark.parametrize(
    ("names", "common_name", "says"),
    [
        ((APP, "spiffe://td.example/other"), "", "2 URI names"),
        ((APP, "https://td.example/other"), "", "2 URI names"),
        (("https://td.example/app",), "", "no SPIFFE ID"),
        (("spiffe://td.example",), "", "no SPIFFE ID"),
        (("spiffe://td.example/a/../b",), "", "no SPIFFE ID"),
        (("spiffe://td.example/a?b",), "", "no SPIFFE ID"),
        (("spiffe://td.example:443/a",), "", "no SPIFFE ID"),
        (("app.example",), "", "names nobody"),
        (("10.0.0.1",), "spiffe://td.example/app", "names nobody"),
    ],
)
async def test_an_ambiguous_or_missing_identity_is_refused(
    house: House, names: tuple[str, ...], common_name: str, says: str
) -> None:
    async with house.serving(), house.client(house.identity(*names, common_name=common_name)) as client:
        with pytest.raises(RpcFailed, match=says) as caught:
            await client.issue_credential("orders", "app")
        with pytest.raises(RpcFailed, match=says):
            await client.list_databases()
        with pytest.raises(RpcFailed, match=says):
            _ = [event async for event in client.watch_databases()]
    assert caught.value.reason is Reason.CALLER_UNIDENTIFIED
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert not caught.value.retryable
    assert not house.grants.asked


@pytest.mark.parametrize(
    ("names", "caller"), [(("App.Example",), "dns:app.example"), ((APP, "app.example"), APP), (("db1",), "dns:db1")]
)
async def test_a_dns_name_is_a_caller_where_allowed(house: House, names: tuple[str, ...], caller: str) -> None:
    async with house.serving(house.tls_listener(allow_dns=True)), house.client(house.identity(*names)) as client:
        await client.issue_credential("orders", "app")
    assert house.grants.asked[0].caller == caller


@pytest.mark.parametrize("names", [("a.example", "b.example"), ("*.example.com",), ("10.0.0.1",)])
async def test_other_dns_names_are_nobody(house: House, names: tuple[str, ...]) -> None:
    async with house.serving(house.tls_listener(allow_dns=True)), house.client(house.identity(*names)) as client:
        with pytest.raises(RpcFailed) as caught:
            await client.issue_credential("orders", "app")
    assert caught.value.reason is Reason.CALLER_UNIDENTIFIED


async def test_a_foreign_client_certificate_is_refused_with_the_likely_cause(house: House, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = TestCa(tmp_path / "foreign")
    identity = house.write(foreign, house.ca, "foreign", APP)
    async with house.serving(), Client(house.numeric_address, identity) as client:
        with pytest.raises(RpcFailed, match=r"client_ca|not available") as caught:
            await client.issue_credential("orders", "app")
    assert caught.value.reason is Reason.BROKER_UNAVAILABLE


async def test_a_broker_we_do_not_trust_is_named_as_such(house: House, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = TestCa(tmp_path / "foreign")
    identity = house.write(house.ca, foreign, "foreign", APP)
    async with house.serving(), Client(house.numeric_address, identity) as client:
        with pytest.raises(RpcFailed, match="signed by a CA in ca_file"):
            await client.issue_credential("orders", "app")


async def test_the_broker_must_have_the_expected_name(house: House) -> None:
    async with house.serving():
        async with Client(house.numeric_address, house.identity(APP), server_name="other.example") as client:
            with pytest.raises(RpcFailed, match="server_name"):
                await client.issue_credential("orders", "app")
        async with Client(house.numeric_address, house.identity(APP)) as client:
            await client.issue_credential("orders", "app")
        async with Client(house.numeric_address, house.identity(APP), server_name="localhost") as client:
            await client.issue_credential("orders", "app")


async def test_plaintext_on_loopback_has_its_fixed_caller(house: House) -> None:
    async with (
        house.serving(PlaintextListener("127.0.0.1:0", "spiffe://td.example/local")),
        Client(house.address) as client,
    ):
        await client.issue_credential("orders", "app")
    assert house.grants.asked[0].caller == "spiffe://td.example/local"


async def test_plaintext_on_a_unix_socket_has_its_fixed_caller(house: House, tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    async with (
        house.serving(PlaintextListener(f"unix:{path}", "spiffe://td.example/local")),
        Client(f"unix:{path}") as client,
    ):
        await client.issue_credential("orders", "app")
    assert house.grants.asked[0].caller == "spiffe://td.example/local"
    assert not path.exists()


async def test_listeners_side_by_side_keep_their_callers_apart(house: House) -> None:
    async with house.serving(house.tls_listener(), PlaintextListener("127.0.0.1:0", "spiffe://td.example/local")):
        assert house.servers is not None
        async with house.client() as over_tls, Client(house.servers.addresses[1]) as plain:
            await plain.issue_credential("orders", "app")
            await over_tls.issue_credential("orders", "app")
            await plain.issue_credential("orders", "app")
    assert [request.caller for request in house.grants.asked] == [
        "spiffe://td.example/local",
        APP,
        "spiffe://td.example/local",
    ]


@pytest.mark.parametrize("target", ["broker.example:7443", "10.0.0.1:7443", "dns:///broker.example:7443"])
def test_without_an_identity_only_loopback_is_called(target: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Client(target)


@pytest.mark.parametrize("target", ["broker.example", "", "localhost:", ":7443", "http://x"])
def test_a_target_must_be_an_address(target: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Client(target)
