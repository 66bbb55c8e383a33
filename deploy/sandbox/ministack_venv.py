"""The sandbox's own virtual environment: ministack, which pins a botocore that must not meet ours, and Valkey.

Built once from ``requirements/sandbox.txt`` (every hash checked) into ``.cache/sandbox-venv-KEY``; another KEY when
that file or the Python version changes, because running sandboxes may still need what the old one holds.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.sandbox.errors import MissingEngine

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "requirements" / "sandbox.txt"
CACHE = REPOSITORY / ".cache"


def ensure(progress: Callable[[str], None]) -> Path:
    """Path of the environment's Python. Raises MissingEngine when it cannot be built."""
    return ensure_locked("sandbox", "ministack and Valkey", REQUIREMENTS, progress)


def ensure_locked(name: str, content: str, requirements: Path, progress: Callable[[str], None]) -> Path:
    """Path of the Python of an environment of its own, .cache/NAME-venv-KEY, with what a file of hashes lists.

    Raises MissingEngine when it cannot be built.
    """
    CACHE.mkdir(exist_ok=True)
    key = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()
    home = CACHE / f"{name}-venv-{key[:12]}"
    python = home / "bin" / "python"
    stamp = home / "built"
    # Those that start at the same time on a fresh machine must not build into one another.
    with (CACHE / f"{name}-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and python.exists():
            return python
        progress(f"installing {content} into .cache/{home.name} (once; about 15 seconds)")
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        # Isolated: what a PYTHONPATH of ours offers would count as installed.
        _run(str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--require-hashes", "--requirement", str(requirements))  # fmt: skip
        stamp.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingEngine(
            f"a virtual environment could not be built:\n{(done.stderr or done.stdout).strip()[-2000:]}\n"
            "Install what is missing (on Debian: apt-get install -y python3-venv) and see that pip can reach its "
            "index, then try again."
        )
