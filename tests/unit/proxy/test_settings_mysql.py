"""A MySQL listener speaks before it can know the database: what its configuration must and may say about that."""

from __future__ import annotations

import pytest

from proxy.app import make_door
from proxy.settings import ProxySettings
from tollbridge.process.settings import SettingsError, load_text

HEAD = "broker: {address: 127.0.0.1:8443}\nlisteners:\n  - {name: my, address: '127.0.0.1:3306', workload: w, "


def settings(rest: str) -> ProxySettings:
    """With one listener."""
    return load_text(f"{HEAD}{rest}}}\n", ProxySettings).value


def test_a_fixed_database_says_its_own_version() -> None:
    door = make_door(settings("protocol: mysql, database: orders").listeners[0])
    assert door.server_version == ""
    assert not door.local_infile


def test_without_a_fixed_database_the_version_is_required() -> None:
    with pytest.raises(SettingsError, match=r"mysql\.server_version: is required without `database`"):
        settings("protocol: mysql, route: login_name")
    text = "protocol: mysql, route: login_name, mysql: {server_version: 8.0.36, local_infile: true}"
    door = make_door(settings(text).listeners[0])
    assert door.server_version == "8.0.36"
    assert door.local_infile


@pytest.mark.parametrize("version", ['"8.0\\0x"', '"8.0\\n"', "x" * 61])
def test_a_version_that_no_greeting_holds_is_refused(version: str) -> None:
    with pytest.raises(SettingsError, match="server_version"):
        settings(f"protocol: mysql, database: orders, mysql: {{server_version: {version}}}")


def test_it_means_nothing_where_another_protocol_is_spoken() -> None:
    with pytest.raises(SettingsError, match="means nothing where postgres is spoken"):
        settings("protocol: postgres, database: orders, mysql: {local_infile: true}")
