"""Where PAM finds a sandbox's service files, and as whom its database servers run.

libpam reads /etc/pam.d and nothing else, so the service name is the one thing sandboxes share. Best is a private
mount namespace in which that directory is ours; a container without CAP_SYS_ADMIN gets files with unique names in the
real one; an ordinary user a user namespace of their own.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox.errors import MissingEngine

PAM_DIRECTORY = Path("/etc/pam.d")
SERVICE_PREFIX = "tb-"
"""Lower case, as the whole name must be: libpam lower-cases the name it is asked for, but not the files' names."""
SERVER_USER = "postgres"

APT_PACKAGES = "postgresql-15 libpam0g-dev gcc"
INSTALL_LINE = f"apt-get install -y --no-install-recommends {APT_PACKAGES}"

_BIND_AND_RUN = 'mount --bind "$1" /etc/pam.d && shift && exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarters:
    """How to run a database server so that PAM answers it. Both prefixes end before the server's own command."""

    run_as: tuple[str, ...]
    """Prefix for helpers (initdb): the right user, no PAM."""
    serve_as: tuple[str, ...]
    """Prefix for the server; the process id stays the same to the end of the chain."""
    service_directory: Path
    """Where to write service files before a server starts."""
    uid: int
    gid: int

    @property
    def files_outlive_servers(self) -> bool:
        """Whether the service files lie in the machine's own directory and must be removed by hand."""
        return self.service_directory == PAM_DIRECTORY


def find_quarters(runtime: Path) -> Quarters:
    """The best way this machine allows; makes ``runtime``/pam.d. Raises MissingEngine if there is none."""
    private = runtime / "pam.d"
    private.mkdir(mode=0o755, exist_ok=True)
    if os.geteuid() != 0:
        return _user_namespace(private)
    user = _server_user()
    run_as = ("setpriv", "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups", "--")
    namespace = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _BIND_AND_RUN, "sh", str(private))
    isolated = PAM_DIRECTORY.is_dir() and _works((*namespace, *run_as, "true"))
    return Quarters(
        run_as=run_as,
        serve_as=(*namespace, *run_as) if isolated else run_as,
        service_directory=private if isolated else PAM_DIRECTORY,
        uid=user.pw_uid,
        gid=user.pw_gid,
    )


def _user_namespace(private: Path) -> Quarters:
    uid, gid = os.geteuid(), os.getegid()
    # Root inside, to mount; then ourselves again, because the server refuses to run as root.
    serve_as = (
        *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _BIND_AND_RUN, "sh", str(private)),
        *("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--"),
    )
    if not _works((*serve_as, "true")):
        raise MissingEngine(
            "the sandbox's PAM service needs root, or a kernel that allows unprivileged user namespaces; run it as "
            f"root, after: {INSTALL_LINE}"
        )
    return Quarters(run_as=(), serve_as=serve_as, service_directory=private, uid=uid, gid=gid)


def build_module(source: Path, module: Path, *, libraries: tuple[str, ...] = ("-lpam",)) -> None:
    """Compile a server's module. Raises MissingEngine when compiler or headers are missing."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise MissingEngine(f"no C compiler for the sandbox's {source.name}. Install it: {INSTALL_LINE}")
    command = (compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", str(module), str(source), *libraries)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingEngine(
            f"the sandbox's {source.name} does not compile:\n{done.stderr.strip()[-1000:]}\nInstall: {INSTALL_LINE}"
        )
    module.chmod(0o755)


def write_services(
    quarters: Quarters,
    services: Iterable[str],
    *,
    module: Path,
    verify_socket: Path,
    remember: Callable[[str], None],
) -> None:
    """One file per service. ``remember`` is told of each file that has to be removed, before it is written."""
    for service in services:
        file = quarters.service_directory / service
        if quarters.files_outlive_servers:
            remember(str(file))
        file.write_text(f"auth required {module} {verify_socket}\naccount required pam_permit.so\n")
        file.chmod(0o644)


def remove_stale_services(directory: Path = PAM_DIRECTORY) -> None:
    """Remove what sandboxes left behind that nobody could stop: service files whose module is gone."""
    for file in directory.glob(f"{SERVICE_PREFIX}*"):
        with suppress(OSError, IndexError):
            module = Path(file.read_text().split()[2])
            if module.name == "pam_token.so" and not module.exists():
                file.unlink()


def _server_user() -> pwd.struct_passwd:
    for name in (SERVER_USER, "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise MissingEngine(f"the database servers need a user other than root. Install it: {INSTALL_LINE}")


def _works(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
