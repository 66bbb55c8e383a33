from __future__ import annotations

import pytest

from broker.api import identity
from broker.api.status import cut, status_of
from broker.errors import BrokerError
from tollbridge.reasons import Reason


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://td/a",
        "spiffe://td.example/ns/a/sa/b",
        "spiffe://td_1-x.example/A.b_c-d",
        "spiffe://" + "t" * 255 + "/" + "p" * 1700,
    ],
)
def test_spiffe_ids_are_callers(uri: str) -> None:
    assert identity.caller_of({"peer_uri": [uri.encode()]}, allow_dns=False) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://td",
        "spiffe://td/",
        "spiffe:///a",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/./a",
        "spiffe://td/a/..",
        "spiffe://TD/a",
        "SPIFFE://td/a",
        "spiffe://td:1/a",
        "spiffe://u@td/a",
        "spiffe://td/a?b",
        "spiffe://td/a#b",
        "spiffe://td/a%20b",
        "spiffe://td/*",
        "spiffe://td/a\n",
        "spiffe://td/\xe4",
        "spiffe://td/" + "p" * 2048,
        "https://td/a",
        "",
    ],
)
@pytest.mark.parametrize("allow_dns", [False, True])
def test_other_uris_are_nobody_even_beside_a_dns_name(uri: str, allow_dns: bool) -> None:
    with pytest.raises(BrokerError) as caught:
        identity.caller_of({"peer_uri": [uri.encode("latin-1")], "peer_dns": [b"a.example"]}, allow_dns=allow_dns)
    assert caught.value.reason is Reason.CALLER_UNIDENTIFIED


@pytest.mark.parametrize(
    "name", [b"-a.example", b"a..b", b"a.example.", b"*.a", b"a b", b"", b"a" * 64, b"a." * 130 + b"a"]
)
def test_what_is_no_host_name_is_nobody(name: bytes) -> None:
    with pytest.raises(BrokerError):
        identity.caller_of({"peer_dns": [name]}, allow_dns=True)


def test_outside_of_an_rpc_there_is_no_caller() -> None:
    with pytest.raises(LookupError):
        identity.current_caller()


def test_short_messages_stay_and_long_ones_fit() -> None:
    assert cut("why") == "why"
    for text in ("a" * 5000, "ä" * 5000, "🌉" * 5000, "a\n" * 5000):
        assert text.startswith(cut(text).removesuffix("..."))
        assert len(cut(text)) > 200


def test_the_whole_status_stays_below_what_peers_accept() -> None:
    error = BrokerError(
        Reason.ASSUME_ROLE_DENIED, "\u0001" * 9999, metadata={f"k{number}": "ä" * 99 for number in range(99)}
    )
    status = status_of(error)
    encoded = 3 * len(status.details.encode())
    encoded += sum(len(value) * 4 // 3 + len(key) + 36 for key, value in status.trailing_metadata)
    assert encoded < 7500
