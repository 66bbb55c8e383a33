"""What a MongoDB listener must say, because drivers do not."""

from __future__ import annotations

import pytest

from proxy.app import make_door
from proxy.settings import ProxySettings
from tollbridge.process.settings import SettingsError, load_text

HEAD = "broker: {address: 127.0.0.1:8443}\nlisteners:\n  - {name: my, address: '127.0.0.1:27017', workload: w, "


def settings(rest: str) -> ProxySettings:
    """With one listener."""
    return load_text(f"{HEAD}{rest}}}\n", ProxySettings).value


@pytest.mark.parametrize(
    "advertise", ["docs.svc:27017", "[::1]:27017", "10.0.0.1:27017"], ids=["a name", "IPv6", "an address"]
)
def test_it_may_say_where_drivers_connect(advertise: str) -> None:
    text = f"protocol: mongodb, database: docs, db_user: role/r, mongodb: {{advertise: '{advertise}'}}"
    assert make_door(settings(text).listeners[0]).advertise == advertise


def test_otherwise_drivers_stay_where_they_dialled() -> None:
    assert make_door(settings("protocol: mongodb, database: docs, db_user: role/r").listeners[0]).advertise == ""


@pytest.mark.parametrize("advertise", ["docs.svc", "docs:x", "a b:27017", ":27017", "::1:27017"])
def test_what_no_driver_could_dial_is_refused(advertise: str) -> None:
    with pytest.raises(SettingsError, match=r"mongodb\.advertise"):
        settings(f"protocol: mongodb, database: docs, db_user: role/r, mongodb: {{advertise: '{advertise}'}}")


def test_connections_that_only_watch_must_lead_somewhere() -> None:
    with pytest.raises(SettingsError, match="db_user: is required"):
        settings("protocol: mongodb, database: docs")
    with pytest.raises(SettingsError, match="route: cannot be login_name"):
        settings("protocol: mongodb, route: login_name, db_user: role/r")


def test_it_means_nothing_where_another_protocol_is_spoken() -> None:
    with pytest.raises(SettingsError, match="means nothing where postgres is spoken"):
        settings("protocol: postgres, database: orders, mongodb: {advertise: 'a:1'}")
