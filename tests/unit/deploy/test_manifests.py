"""What operators copy from deploy/ is what the daemons take."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.settings import load as load_broker
from proxy.settings import load as load_proxy

DEPLOY = Path(__file__).parents[3] / "deploy"
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


@pytest.mark.parametrize("daemon", ["broker", "proxy"])
def test_units_start_the_daemon_with_its_configuration(daemon: str) -> None:
    """The default path, without a shell, and no core dumps that would hold a credential."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case, as the module documents
    unit.read(DEPLOY / "systemd" / f"tollbridge-{daemon}.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith(f"tollbridge-{daemon} serve --config /etc/tollbridge/{daemon}.yaml")
    assert service["LimitCORE"] == "0"
