"""MariaDB servers that take an IAM token as the password, as RDS for MariaDB does.

The server asks for mysql_clear_password and hands what it gets to the same PAM module as PostgreSQL's; here it is one
process with a thread for each connection, so the module runs in many threads at once. The token plugin is
``auth_pam_v1``: the newer one needs a setuid helper that only the distribution's own server user may run.

The data directory is copied from a template in ``.cache``; users are made at each start, because they name the
sandbox's PAM service.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.sandbox import commands, ministack_venv, processes, topology
from deploy.sandbox.errors import MissingEngine, did_not_start
from deploy.sandbox.ground import Ground
from deploy.sandbox.pam import Quarters
from deploy.sandbox.world import Database

INSTALL_LINE = "RUNLEVEL=1 apt-get install -y --no-install-recommends mariadb-server mariadb-client"
PLUGIN = Path("/usr/lib/mysql/plugin/auth_pam_v1.so")
PORT_ATTEMPTS = 5
SEED = Path(__file__).with_name("seed-mariadb.sql")
READY = "ready for connections"

_SETTINGS = """\
[mariadbd]
datadir = {directory}/data
socket = {directory}/s
pid_file = {directory}/pid
bind_address = 127.0.0.1
port = {port}
skip_name_resolve
max_connections = {max_connections}
back_log = 500
max_allowed_packet = 64M
plugin_load_add = auth_pam_v1
plugin_load_add = auth_ed25519
pam_use_cleartext_plugin = ON
init_file = {directory}/users.sql
ssl_cert = {directory}/server.crt
ssl_key = {directory}/server.key
ssl_ca = {directory}/ca.pem
tls_version = TLSv1.2,TLSv1.3
default_time_zone = +00:00
innodb_flush_log_at_trx_commit = 0
innodb_doublewrite = 0
innodb_log_file_size = 8M
innodb_buffer_pool_size = 64M
innodb_buffer_pool_dump_at_shutdown = 0
innodb_buffer_pool_load_at_startup = 0
performance_schema = 0
"""

# One statement a line, as init_file wants it. REQUIRE SSL is looked at after the password has arrived: whoever sends
# it without TLS has already lost it.
_IAM_USER = "CREATE USER '{user}'@'%' IDENTIFIED VIA pam USING '{service}' REQUIRE SSL;\n"
_GRANTS = """\
CREATE USER 'nativeuser'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('sandbox-nativeuser-password');
CREATE USER 'ed25519user'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('sandbox-ed25519user-password') REQUIRE SSL;
GRANT ALL ON app.* TO 'app'@'%', 'admin'@'%', 'nativeuser'@'%';
GRANT SELECT ON app.* TO 'readonly'@'%', 'ed25519user'@'%';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where one server keeps its things; ``directory`` (which also holds its socket) belongs to the server's user."""

    name: str
    directory: Path
    log_file: Path

    @property
    def socket(self) -> Path:
        """``mariadb --socket=... --user=root`` comes in here without a password."""
        return self.directory / "s"


def check() -> None:
    """Raises MissingEngine."""
    programs = ("mariadbd", "mariadb-install-db", "mariadb")
    if missing := [program for program in programs if _program(program) is None]:
        raise MissingEngine(f"MariaDB is not installed ({', '.join(missing)}). Install it: {INSTALL_LINE}")
    if not PLUGIN.exists():
        raise MissingEngine(f"MariaDB's PAM plugin is missing ({PLUGIN}). Install it: {INSTALL_LINE}")


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server for each database."""
    template = _ensure_template(ground.runtime, ground.quarters)
    return [_launch(ground, spec, template) for spec in specs]


def _launch(ground: Ground, spec: topology.DatabaseSpec, template: Path) -> Database:
    server = Server(
        name=spec.name,
        directory=ground.make_directory(spec.name),
        log_file=ground.logs / f"mariadb-{spec.name}.log",
    )
    ground.authority.issue(server.directory / "server.crt", server.directory / "server.key", dns_names=[spec.host])
    (server.directory / "ca.pem").write_bytes(ground.authority.certificate_pem)
    users = "".join(_IAM_USER.format(user=user, service=ground.service(spec)) for user in topology.IAM_DB_USERS)
    (server.directory / "users.sql").write_text(users + _GRANTS)
    commands.copy(template, server.directory / "data")
    commands.give(server.directory, ground.quarters.uid, ground.quarters.gid)
    port = _start(server, ground)
    return Database.of(spec, local_port=port, superuser_dsn=f"--socket={server.socket} --user=root")


def _start(server: Server, ground: Ground) -> int:
    for _ in range(PORT_ATTEMPTS):
        port = commands.free_port()
        settings = server.directory / "my.cnf"
        settings.write_text(
            _SETTINGS.format(directory=server.directory, port=port, max_connections=ground.max_connections)
        )
        settings.chmod(0o644)  # it would ignore a file that everybody may write, whatever the umask
        process = processes.start(
            f"mariadb {server.name}",
            (*ground.quarters.serve_as, str(_program("mariadbd")), f"--defaults-file={settings}"),
            log_file=server.log_file,
            environment=_environment(server.directory),
            stop_signal=signal.SIGKILL,  # nothing here is worth a clean shutdown
        )
        ground.ledger.add_process(process)
        if _wait_until_ready(server, process):
            return port
        # Somebody may have taken the port between our asking for it and the server's bind.
        if "Bind on TCP/IP port" not in server.log_file.read_text(errors="replace"):
            break
    raise did_not_start(f"the database server {server.name}", server.log_file)


def _wait_until_ready(server: Server, process: processes.StartedProcess) -> bool:
    # Asking by a connection would count among the server's aborted ones.
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        if READY in server.log_file.read_text(errors="replace"):
            return True
        time.sleep(processes.POLL_SECONDS)
    return False


def _ensure_template(runtime: Path, quarters: Quarters) -> Path:
    """A data directory with ``seed-mariadb.sql`` in it, made once per MariaDB version. Built in ``runtime``."""
    version = subprocess.run(
        (str(_program("mariadbd")), "--version"), capture_output=True, text=True, check=True
    ).stdout
    key = hashlib.sha256(version.encode() + SEED.read_bytes()).hexdigest()[:16]
    template = ministack_venv.CACHE / f"sandbox-mariadb-{key}"
    if template.is_dir():
        return template
    home = runtime / "mariadb-template"
    home.mkdir(mode=0o700)
    os.chown(home, quarters.uid, quarters.gid)
    data, as_user, log = home / "data", quarters.run_as, home / "log"
    commands.run(*as_user, str(_program("mariadb-install-db")), "--no-defaults", f"--datadir={data}",
                 "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M")  # fmt: skip
    # --bootstrap reads the seed from its standard input and ends with it.
    commands.run(*as_user, str(_program("mariadbd")), "--no-defaults", "--bootstrap", f"--datadir={data}",
                 f"--log-error={log}", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
                 stdin=SEED)  # fmt: skip
    # Another sandbox may be doing the same; whoever renames first wins, and both are alike.
    ministack_venv.CACHE.mkdir(exist_ok=True)
    draft = ministack_venv.CACHE / f"{template.name}.{os.getpid()}"
    commands.copy(data, draft)
    try:
        draft.rename(template)
    except OSError:
        shutil.rmtree(draft)
    shutil.rmtree(home)
    return template


def _program(name: str) -> str | None:
    # Servers live in sbin, which an ordinary user's PATH may lack.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _environment(directory: Path) -> dict[str, str]:
    # Without HOME it would look for settings of the user who started it.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(directory)}
