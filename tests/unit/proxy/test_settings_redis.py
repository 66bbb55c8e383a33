"""Whether the clients of a Redis listener share connections."""

from __future__ import annotations

import pytest

from proxy.app import make_door
from proxy.settings import ProxySettings
from tollbridge.process.settings import SettingsError, load_text

HEAD = "broker: {address: 127.0.0.1:8443}\nlisteners:\n  - {name: my, address: '127.0.0.1:6379', workload: w, "


def settings(rest: str) -> ProxySettings:
    """With one listener."""
    return load_text(f"{HEAD}{rest}}}\n", ProxySettings).value


@pytest.mark.parametrize(
    ("section", "shares"),
    [("", False), (", redis: {}", False), (", redis: {multiplex: false}", False), (", redis: {multiplex: true}", True)],
)
def test_clients_share_connections_where_the_listener_says_so(section: str, shares: bool) -> None:
    listener = settings(f"protocol: redis, database: cache, db_user: app{section}").listeners[0]
    assert make_door(listener).multiplex is shares


def test_it_means_nothing_where_another_protocol_is_spoken() -> None:
    with pytest.raises(SettingsError, match="means nothing where postgres is spoken"):
        settings("protocol: postgres, database: orders, redis: {multiplex: true}")


def test_it_is_yes_or_no() -> None:
    with pytest.raises(SettingsError, match=r"redis\.multiplex"):
        settings("protocol: redis, database: cache, redis: {multiplex: 50}")
