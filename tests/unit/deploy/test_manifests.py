"""What operators copy from deploy/ is what the daemons take."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.settings import load as load_broker
from proxy.settings import load as load_proxy

DEPLOY = Path(__file__).parents[3] / "deploy"
PLACES = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "LogsDirectory": "/var/log",
    "CacheDirectory": "/var/cache",
}
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(manifest: Path) -> list[dict[str, Any]]:
    """Every object of a manifest."""
    return list(yaml.safe_load_all(manifest.read_text()))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_configuration_in_a_manifest_loads_without_a_warning(manifest: Path, tmp_path: Path) -> None:
    """ConfigMaps hold what check-config accepts."""
    files = {name: text for d in documents(manifest) if d["kind"] == "ConfigMap" for name, text in d["data"].items()}
    assert files
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        loaded = load_broker(tmp_path / name) if name == "broker.yaml" else load_proxy(tmp_path / name)
        assert loaded.warnings == []


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_every_volume_that_is_mounted_exists(manifest: Path) -> None:
    """And every configuration file is where the daemon looks for it."""
    for document in documents(manifest):
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            mounts = container.get("volumeMounts", [])
            assert {mount["name"] for mount in mounts} <= volumes
            assert not mounts or "/etc/tollbridge" in {mount["mountPath"] for mount in mounts}


def unit(daemon: str) -> configparser.SectionProxy:
    """`[Service]` of its unit."""
    file = configparser.ConfigParser(strict=False, interpolation=None)
    file.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case, as the module documents
    file.read(DEPLOY / "systemd" / f"tollbridge-{daemon}.service")
    return file["Service"]


def directories(daemon: str) -> set[Path]:
    """What its unit lets it write to; the rest of the machine is read-only to it."""
    service = unit(daemon)
    assert service["ProtectSystem"] == "strict"
    return {Path(place, service[key]) for key, place in PLACES.items() if key in service}


@pytest.mark.parametrize("daemon", ["broker", "proxy"])
def test_units_start_the_daemon_with_its_configuration(daemon: str) -> None:
    """The default path, without a shell, and no core dumps that would hold a credential."""
    service = unit(daemon)
    assert service["ExecStart"].endswith(f"tollbridge-{daemon} serve --config /etc/tollbridge/{daemon}.yaml")
    assert service["LimitCORE"] == "0"


def test_no_directory_is_both_daemons() -> None:
    """Each runs as a user of its own, to whom systemd gives all that is in them at every start."""
    assert directories("broker") & directories("proxy") == set()


@pytest.mark.parametrize("daemon", ["broker", "proxy"])
def test_what_the_example_writes_to_is_its_units_and_outlives_a_restart_where_certificates_are(daemon: str) -> None:
    values = list(texts(yaml.safe_load((DEPLOY / "config" / f"{daemon}.example.yaml").read_text())))
    paths = [(key, Path(text.removeprefix("unix:"))) for key, text in values if text.startswith(("/", "unix:/"))]
    written = {path for key, path in paths if key == "spool_dir"}
    written |= {path.parent for key, path in paths if key in ("file", "address")}
    assert written
    assert written <= directories(daemon)
    kept = {real(path.parent) for key, path in paths if key.endswith("_file")} & directories(daemon)
    assert {path.parent for path in kept} <= {Path("/run")}
    assert not kept or unit(daemon)["RuntimeDirectoryPreserve"] == "yes"


def texts(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, with the key it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from texts(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from texts(value, key)


def real(path: Path) -> Path:
    """/var/run is /run."""
    return Path("/", *path.parts[2:]) if path.parts[:3] == ("/", "var", "run") else path


@pytest.mark.parametrize("daemon", ["broker", "proxy"])
def test_a_daemon_whose_certificates_come_late_is_started_until_they_are_there(daemon: str) -> None:
    """systemd gives up after five starts within ten seconds."""
    service = unit(daemon)
    assert service["Restart"] == "on-failure"
    assert int(service["RestartSec"]) * 5 >= 10


def test_a_broker_that_starts_slowly_is_not_killed_for_it() -> None:
    """A minute for a table that is made, and what a hung AWS takes before the copy is used."""
    (deployment,) = (each for each in documents(DEPLOY / "kubernetes/broker.yaml") if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert probe["httpGet"] == {"path": "/livez", "port": "admin"}
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120
