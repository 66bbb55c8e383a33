"""The proxy's configuration: what is accepted, and that everything wrong is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.addresses import Address, parse_address
from proxy.engines import PROTOCOLS
from proxy.settings import ProxySettings, load
from tollbridge.process.settings import SettingsError, json_schema, load_text

ROOT = Path(__file__).parents[3]
FILES = "{cert_file: /c, key_file: /k, client_ca_file: /ca}"
GOOD = """
broker: {address: "127.0.0.1:8443"}
listeners:
- {name: a, protocol: postgres, address: "127.0.0.1:0", workload: w, database: d}
"""


def problems(text: str) -> str:
    """What check-config would print."""
    with pytest.raises(SettingsError) as caught:
        load_text(text, ProxySettings)
    return str(caught.value)


def warnings(text: str) -> str:
    """What it would print beside a file that can be used."""
    return "\n".join(str(warning) for warning in load_text(text, ProxySettings).warnings)


def listener(rest: str, address: str = "127.0.0.1:1") -> str:
    """A file with one listener."""
    return (
        'broker: {address: "unix:/run/b.sock"}\n'
        f'listeners:\n- {{name: a, protocol: postgres, address: "{address}", {rest}}}\n'
    )


def test_the_example_is_valid() -> None:
    """What we hand out loads without a warning, and shows every section there is."""
    loaded = load(ROOT / "deploy/config/proxy.example.yaml")
    assert loaded.warnings == []
    assert loaded.value.model_fields_set == set(ProxySettings.model_fields)


def test_little_is_required() -> None:
    """A broker, a listener, who, where to."""
    settings = load_text(GOOD, ProxySettings).value
    assert settings.drain.seconds == 25
    assert settings.listeners[0].limits.max_connections == 1000
    assert settings.sessions.idle_seconds is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5432", Address(host="127.0.0.1", port=5432)),
        ("[::1]:5432", Address(host="::1", port=5432)),
        ("DB.Example:1", Address(host="db.example", port=1)),
        ("unix:/run/x.sock", Address(path="/run/x.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """Three spellings."""
    assert parse_address(text) == address
    assert str(address) == text.lower()


@pytest.mark.parametrize(
    "text", ["", "x", ":1", "::1:5432", "x:", "x:y", "x:70000", "unix:relative", "unix:/" + 107 * "x"]
)
def test_addresses_that_are_none(text: str) -> None:
    """They are refused when the file is read, not when it is bound."""
    with pytest.raises(ValueError, match=r"must be|unix socket|at most"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/x", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("[::]:1", False),
        ("db.example:1", False),
    ],
)
def test_what_counts_as_this_machine(text: str, local: bool) -> None:
    """A name that merely resolves to loopback today does not."""
    assert parse_address(text).local is local


def test_a_broker_elsewhere_needs_tls() -> None:
    """Credentials travel there."""
    text = problems(GOOD.replace("127.0.0.1:8443", "broker:8443"))
    assert "broker.tls: is required: the broker is not on this machine" in text
    assert "hint: credentials travel here" in text


def test_off_loopback_clients_need_tls_and_a_certificate() -> None:
    """Each of the four ways to leave a door open has its own line."""
    assert "listeners[0].tls: is required" in problems(listener("database: d", "0.0.0.0:1"))
    bare = "tls: {cert_file: /c, key_file: /k, required: false}, workload: w, database: d"
    text = problems(listener(bare, "0.0.0.0:1"))
    assert "listeners[0].tls.required: must be true" in text
    assert "listeners[0].tls.client_ca_file: is required" in text
    assert "listeners[0].workload: is for loopback and unix sockets only" in text


def test_on_loopback_somebody_must_be_identified() -> None:
    """A listener that nobody could log in through is a mistake."""
    assert "nothing here says who a client is" in problems(listener("database: d"))
    load_text(listener(f"tls: {FILES}, database: d"), ProxySettings)


@pytest.mark.parametrize("route", ["", ", database: d, route: login_name", ", database: d, sni: {a: b}"])
def test_exactly_one_route(route: str) -> None:
    """Two routes would make the reader guess which wins."""
    assert "must have exactly one route" in problems(listener(f"tls: {FILES}{route}"))


def test_routing_by_server_name_needs_tls_and_lower_case() -> None:
    """Both would fail at the first login otherwise."""
    text = problems(listener("workload: w, sni: {Orders.DB: d}"))
    assert "needs `tls`" in text
    assert "compared in lower case" in text


def test_two_listeners_cannot_share_a_name_or_an_address() -> None:
    """Metrics are by name, sockets by address."""
    row = GOOD.splitlines()[-1].replace(":0", ":5432")
    text = problems(GOOD.replace(":0", ":5432") + row)
    assert "listeners[0].name: 'a' is used by 2 listeners" in text
    assert "listeners[1].address: '127.0.0.1:5432' is used by 2 listeners" in text


def test_a_listener_cannot_stand_on_the_admin_port() -> None:
    """The second of the two would fail to bind."""
    assert "is the address of `admin`, too" in problems(GOOD.replace(":0", ":8082"))
    load_text(GOOD.replace(":0", ":8083"), ProxySettings)


def test_a_workload_that_nobody_can_be_is_warned_of() -> None:
    """The broker's rules know SPIFFE IDs."""
    assert "nobody is called 'checkout'" in warnings(listener("workload: checkout, database: d"))
    assert warnings(listener("workload: 'spiffe://example.org/w', database: d")) == ""


def test_limits_of_a_database_that_no_listener_leads_to_are_warned_of() -> None:
    """Unless a login name may lead there."""
    limits = "\ndatabases: {e: {max_connections: 1}}\n"
    text = warnings(listener("workload: 'spiffe://a/w', database: d") + limits)
    assert "databases.e: no listener leads to this database" in text
    assert "listeners lead to d" in text
    assert warnings(listener(f"tls: {FILES}, route: login_name") + limits) == ""


@pytest.mark.parametrize(("word", "meant"), [("mariadb", "mysql"), ("valkey", "redis"), ("postgresql", "postgres")])
def test_a_protocol_by_another_name_is_put_right(word: str, meant: str) -> None:
    """Servers and products are not protocols."""
    assert f"did you mean '{meant}'?" in problems(listener("workload: w, database: d").replace("postgres", word))


def test_everything_wrong_is_said_at_once() -> None:
    """One run of check-config, one round of edits."""
    text = problems(
        """
broker: {address: "broker:x"}
listeners:
- {name: a, protocol: mysqlx, address: "0.0.0.0:1", workload: w}
drain: {seconds: -1}
dial: {"a:b": "::x:"}
log: {level: loud}
bogus: 1
"""
    )
    for expected in (
        "broker.address: must be host:port",
        f"listeners[0].protocol: must be one of {', '.join(PROTOCOLS)}",
        "listeners[0].tls: is required",
        "must have exactly one route, not none",
        "drain.seconds: must be at least 0",
        "dial['a:b']: must be `host` or `host:port`",
        "log.level: must be 'debug'",
        "bogus: unknown key",
    ):
        assert expected in text


def test_brokers_without_a_common_name_may_be_listed() -> None:
    """By address; their certificates then need a name to be checked for."""
    tls = "cert_file: /c, key_file: /k, ca_file: /a"
    listed = "ipv4:10.0.0.1:8443,10.0.0.2:8443"
    listeners = GOOD[GOOD.index("listeners:") :]
    good = f'broker: {{address: "{listed}", tls: {{{tls}, server_name: broker.example}}}}\n' + listeners
    assert load_text(good, ProxySettings).value.broker.address == listed
    for address, wrong in (("ipv4:broker:84", "'broker:84' is no IPv4"), ("ipv4:10.0.0.1", "'10.0.0.1' is no IPv4")):
        assert wrong in problems(good.replace(listed, address))
    assert "tls.server_name is required" in problems(good.replace(", server_name: broker.example", ""))


def test_trust_files_replace_the_packaged_bundles() -> None:
    """One given, the other stays."""
    stores = load_text(GOOD + "trust: {aws_rds: /x.pem}\n", ProxySettings).value.trust.stores()
    assert stores.aws_rds == Path("/x.pem")
    assert stores.aws_redshift.name == "aws-redshift.pem"
    assert stores.aws_redshift.exists()


def test_the_schema_names_every_section() -> None:
    """Editors complete from it."""
    assert set(json_schema(ProxySettings)["properties"]) == set(ProxySettings.model_fields)


def test_limits_of_one_database_add_to_those_of_all() -> None:
    """A limit for one database must not lift the others silently: one of them bounds revocation."""
    text = GOOD + (
        "sessions: {max_session_seconds: 3600, max_connections: 50}\n"
        "databases: {small: {logins_per_second: 5}, wide: {max_connections: 500}}\n"
    )
    settings = load_text(text, ProxySettings).value
    small, wide, other = (settings.limits_of(name) for name in ("small", "wide", "other"))
    assert (small.max_session_seconds, small.max_connections, small.logins_per_second) == (3600, 50, 5)
    assert (wide.max_session_seconds, wide.max_connections) == (3600, 500)
    assert other == settings.sessions


@pytest.mark.parametrize("bad", ["max_connections: 0", "logins_per_second: 0", "wait_seconds: 61", "max_logins: 1"])
def test_a_limit_that_cannot_be_is_an_error(bad: str) -> None:
    with pytest.raises(SettingsError, match="databases"):
        load_text(GOOD + f"databases: {{orders: {{{bad}}}}}\n", ProxySettings)
