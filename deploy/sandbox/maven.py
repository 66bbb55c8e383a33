"""What comes from Maven Central: servers that run on the JVM, and the JVM to run them.

Fetched once by the ordinary client (Debian's ``maven``, which knows where Central or the machine's own mirror is) into
``.cache``, and used only when the SHA-256 is the one written down beside its name.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox.errors import MissingEngine
from deploy.sandbox.ministack_venv import CACHE

JAVA_MAJOR = 17
INSTALL_LINE = "apt-get install -y --no-install-recommends maven openjdk-17-jre-headless"
FETCH_TIMEOUT_SECONDS = 600

_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of Maven Central."""

    group: str
    name: str
    version: str
    sha256: str
    packaging: str = "jar"

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.{self.packaging}"


def check() -> None:
    """Raises MissingEngine when there is no Java, or no client to fetch with."""
    java()
    if shutil.which("mvn") is None:
        raise MissingEngine(f"maven is not installed. Install it: {INSTALL_LINE}")


def java() -> Path:
    """The program, of version 17 or newer. Raises MissingEngine."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None or _major(found) < JAVA_MAJOR:
        raise MissingEngine(f"Java {JAVA_MAJOR} is not installed. Install it: {INSTALL_LINE}")
    return Path(found).resolve()


def fetch(artifacts: Sequence[Artifact], progress: Callable[[str], None]) -> list[Path]:
    """Where they lie, in their order; at once when they are there. Blocks. Raises MissingEngine."""
    home = CACHE / "maven"
    home.mkdir(parents=True, exist_ok=True)
    # Those that start at the same time on a fresh machine must not write into one another.
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return [_fetched(artifact, home, progress) for artifact in artifacts]


def _fetched(artifact: Artifact, home: Path, progress: Callable[[str], None]) -> Path:
    # The hash is in the path, and a file gets there only after it was found right.
    target = home / artifact.sha256[:16] / artifact.file_name
    if target.is_file():
        return target
    check()
    progress(f"fetching {artifact.file_name} with Maven (once)")
    repository = home / "repository"
    coordinates = f"{artifact.group}:{artifact.name}:{artifact.version}:{artifact.packaging}"
    command = ("mvn", "--batch-mode", "--quiet", f"-Dmaven.repo.local={repository}", _GET)
    done = subprocess.run(
        (*command, f"-Dartifact={coordinates}", "-Dtransitive=false"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FETCH_TIMEOUT_SECONDS,
        check=False,
        cwd=home,
    )
    place = repository.joinpath(*artifact.group.split("."), artifact.name, artifact.version, artifact.file_name)
    if done.returncode != 0 or not place.is_file():
        said = (done.stdout + done.stderr).strip()[-1500:]
        raise MissingEngine(f"Maven could not fetch {coordinates}; can it reach its repository?\n{said}")
    if _sha256(place) != artifact.sha256:
        place.unlink()
        raise MissingEngine(f"{coordinates} is not the file that was expected: its SHA-256 differs")
    target.parent.mkdir(exist_ok=True)
    draft = target.with_suffix(".tmp")
    shutil.copyfile(place, draft)
    draft.replace(target)
    return target


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _major(program: str) -> int:
    said = subprocess.run((program, "-version"), capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else 0
