"""What pyproject asks for is enough for the stubs that are committed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "proto/tollbridge/v1"


def lowest(name: str) -> set[str]:
    """The lower bounds that pyproject sets for a package, wherever it does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lists += project["dependency-groups"].values()
    found = (re.fullmatch(r"([a-z-]+)(\[.*\])?>=([\d.]+)", entry) for entries in lists for entry in entries)
    return {match[3] for match in found if match and match[1] == name}


def written(pattern: str, files: str) -> set[str]:
    """What generated files say they were generated for."""
    return {match for path in STUBS.glob(files) for match in re.findall(pattern, path.read_text())}


def test_protobuf_is_as_new_as_its_generated_code() -> None:
    """An older runtime refuses to import it."""
    assert lowest("protobuf") == written(r"Protobuf Python Version: ([\d.]+)", "*_pb2.py")


def test_grpc_is_as_new_as_its_generated_code() -> None:
    """The same, and its companions are released together with it."""
    wanted = written(r"GRPC_GENERATED_VERSION = '([\d.]+)'", "*_pb2_grpc.py")
    for name in ("grpcio", "grpcio-status", "grpcio-health-checking", "grpcio-tools"):
        assert lowest(name) == wanted, name
