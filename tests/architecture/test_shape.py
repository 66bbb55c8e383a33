"""The rules of the house that an import contract cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker", "proxy", "proto/tollbridge", "deploy", "tests")
SOURCES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
PURE = (
    *sorted((ROOT / "proxy/engines").rglob("*.py")),
    *sorted((ROOT / "proxy/http").rglob("*.py")),
    *(
        ROOT / "proxy" / name
        for name in (
            "script.py",
            "inbox.py",
            "model.py",
            "errors.py",
            "guard.py",
            "multiplex.py",
            "engine.py",
            "admission.py",
            "sigv4.py",
        )
    ),
    *(
        ROOT / "proto/tollbridge" / name
        for name in ("model.py", "names.py", "reasons.py", "reports.py", "secret.py", "clock.py")
    ),
)
PURE_STDLIB = {
    "__future__", "base64", "collections", "dataclasses", "datetime", "difflib", "enum", "functools", "hashlib", "hmac",
    "itertools", "json", "re", "struct", "types", "typing", "zlib",
}  # fmt: skip
PURE_OURS = (
    "proxy.engine", "proxy.engines", "proxy.errors", "proxy.guard", "proxy.http.", "proxy.inbox", "proxy.model",
    "proxy.multiplex", "proxy.script", "proxy.sigv4", "tollbridge.model", "tollbridge.reasons", "tollbridge.secret",
)  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def relative(path: Path) -> str:
    """A file's name as people say it."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_fits_in_400_lines(path: Path) -> None:
    """A longer file holds more than one idea."""
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", PURE, ids=relative)
def test_pure_modules_import_nothing_that_acts(path: Path) -> None:
    """No clock, no randomness, no I/O: by allow-list, so that a new import is a decision."""
    for name in imports(path):
        ours = name.startswith(PURE_OURS)
        assert ours or name.split(".")[0] in PURE_STDLIB, f"{relative(path)} imports {name}"


def test_engines_do_not_know_each_other() -> None:
    """What two engines share is a pure module beside them."""
    engines = [folder for folder in (ROOT / "proxy/engines").iterdir() if (folder / "__init__.py").exists()]
    for folder in engines:
        others = {f"proxy.engines.{other.name}" for other in engines if other != folder}
        for path in folder.rglob("*.py"):
            for name in imports(path):
                assert not any(name == other or name.startswith(other + ".") for other in others)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "proxy/net")], ids=relative)
def test_the_network_knows_no_engine_by_name(path: Path) -> None:
    """A new engine is one folder and one line."""
    assert not any(name.startswith("proxy.engines") for name in imports(path))


def test_only_lifecycle_reads_the_wall_clock() -> None:
    """Everything else is handed a Clock, so tests move time."""
    wall = {"datetime.now", "datetime.datetime.now", "time.time", "datetime.today", "date.today", "datetime.utcnow"}
    for path in SOURCES:
        if path.is_relative_to(ROOT / "tests") or path.is_relative_to(ROOT / "deploy"):
            continue
        if path.match("tollbridge/process/lifecycle.py"):
            continue
        for line, name in calls(path):
            assert name not in wall, f"{relative(path)}:{line} calls {name}"


def test_daemons_do_not_print() -> None:
    """Daemons log; only command lines and what people run by hand talk."""
    for path in SOURCES:
        if not path.is_relative_to(ROOT / "broker") and not path.is_relative_to(ROOT / "proxy"):
            continue
        for line, name in calls(path):
            assert name != "print", f"{relative(path)}:{line} prints"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_outside_tests_and_deploy_imports_them(path: Path) -> None:
    """What ships does not lean on what tests it."""
    if path.parts[len(ROOT.parts)] in {"tests", "deploy"}:
        return
    assert not any(name.split(".")[0] in {"tests", "deploy"} for name in imports(path))


def test_the_stubs_are_what_the_protos_say(tmp_path: Path) -> None:
    """`make proto` was run after the last change to a .proto file."""
    protos = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "."]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *protos], cwd=ROOT / "proto", check=True, timeout=60)
    generated = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert generated
    for path in generated:
        committed = ROOT / "proto" / path.relative_to(tmp_path)
        assert committed.read_text() == path.read_text(), f"{committed.name} is stale: run make proto"
