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
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.sandbox.errors import MissingEngine
from deploy.sandbox.ministack_venv import CACHE

JAVA_MAJOR = 17
INSTALL_LINE = "apt-get install -y --no-install-recommends maven openjdk-17-jre-headless"
FETCH_TIMEOUT_SECONDS = 600

_RESOLVE = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:resolve"

_PROJECT = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tollbridge</groupId>
  <artifactId>sandbox</artifactId>
  <version>1</version>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
# What it needs itself is ours to list.
_DEPENDENCY = """\
    <dependency>
      <groupId>{group}</groupId>
      <artifactId>{name}</artifactId>
      <version>{version}</version>
      <type>{packaging}</type>
      <classifier>{classifier}</classifier>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of Maven Central."""

    group: str
    name: str
    version: str
    sha256: str
    packaging: str = "jar"
    classifier: str = ""

    @property
    def file_name(self) -> str:
        variant = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{variant}.{self.packaging}"


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


def listed(file: Path) -> list[Artifact]:
    """Jars as a file lists them, one a line: ``group:name:version[:classifier] sha256``."""
    lines = (line.split() for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return [_jar(coordinates.split(":"), sha256) for coordinates, sha256 in lines]


def _jar(coordinates: Sequence[str], sha256: str) -> Artifact:
    group, name, version, *classifier = coordinates
    return Artifact(group=group, name=name, version=version, sha256=sha256, classifier="".join(classifier))


def fetch(artifacts: Sequence[Artifact], progress: Callable[[str], None]) -> list[Path]:
    """Where they lie, in their order; at once when they are there. Blocks. Raises MissingEngine."""
    home = CACHE / "maven"
    home.mkdir(parents=True, exist_ok=True)
    # Those that start at the same time on a fresh machine must not write into one another.
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [artifact for artifact in artifacts if not _target(artifact, home).is_file()]
        if missing:
            check()
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            progress(f"fetching {missing[0].file_name}{more} with Maven (once)")
            _download(missing, home)
            for artifact in missing:
                _accept(artifact, home)
    return [_target(artifact, home) for artifact in artifacts]


def _target(artifact: Artifact, home: Path) -> Path:
    # The hash is in the path, and a file gets there only after it was found right.
    return home / artifact.sha256[:16] / artifact.file_name


def _place(artifact: Artifact, home: Path) -> Path:
    """Where Maven puts it."""
    folder = home.joinpath("repository", *artifact.group.split("."), artifact.name, artifact.version)
    return folder / artifact.file_name


def _download(artifacts: Sequence[Artifact], home: Path) -> None:
    """All in one run: starting Maven takes longer than fetching a jar."""
    project = home / "pom.xml"
    dependencies = "\n".join(_DEPENDENCY.format(**asdict(artifact)) for artifact in artifacts)
    project.write_text(_PROJECT.format(dependencies=dependencies))
    done = subprocess.run(
        ("mvn", "--batch-mode", "--quiet", f"-Dmaven.repo.local={home / 'repository'}", "--file", project, _RESOLVE),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FETCH_TIMEOUT_SECONDS,
        check=False,
        cwd=home,
    )
    if done.returncode != 0 or not all(_place(artifact, home).is_file() for artifact in artifacts):
        said = (done.stdout + done.stderr).strip()[-1500:]
        names = ", ".join(artifact.file_name for artifact in artifacts[:3])
        raise MissingEngine(f"Maven could not fetch {names}; can it reach its repository?\n{said}")


def _accept(artifact: Artifact, home: Path) -> None:
    place, target = _place(artifact, home), _target(artifact, home)
    if _sha256(place) != artifact.sha256:
        place.unlink()
        raise MissingEngine(f"{artifact.file_name} is not the file that was expected: its SHA-256 differs")
    target.parent.mkdir(exist_ok=True)
    draft = target.with_suffix(".tmp")
    shutil.copyfile(place, draft)
    draft.replace(target)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _major(program: str) -> int:
    said = subprocess.run((program, "-version"), capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else 0
