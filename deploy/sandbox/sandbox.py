"""Start and stop one sandbox."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from deploy.sandbox import dynamodb, engines, estate, ministack_venv, opensearch, pam, postgres, processes, topology
from deploy.sandbox.accounts import Accounts
from deploy.sandbox.control import Control
from deploy.sandbox.errors import did_not_start
from deploy.sandbox.ground import Ground, service_name
from deploy.sandbox.pki import CertificateAuthority
from deploy.sandbox.world import World

SOCKET_PATH_LIMIT = 100
"""A unix socket's path has 107 bytes; servers append a few of their own."""

PASSWORD_USERS = {
    user: f"sandbox-{user}-password"
    for user in (
        *topology.PASSWORD_DB_USERS,
        *topology.MARIADB_PASSWORD_USERS,
        *topology.VALKEY_PASSWORD_USERS,
        *topology.CASSANDRA_PASSWORD_USERS,
    )
}
"""As the servers' seeds set them."""

_SANDBOX_CODE = Path(__file__).resolve().parent

Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Progress for those who do not want any."""


class Sandbox:
    """One sandbox in one directory. All methods block; use it from one thread at a time.

    Unless ``detached``, everything it started is stopped soon after this process dies, however it dies.
    ``max_connections`` holds for each database server. ``engine_names`` are those of ``engines.ENGINES``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        detached: bool = False,
        max_connections: int = postgres.MAX_CONNECTIONS,
        engine_names: Collection[str] = engines.DEFAULT,
    ) -> None:
        self.directory = directory.absolute()
        self._detached = detached
        self._max_connections = max_connections
        self._engines = engines.chosen(engine_names)
        self._specs = tuple(spec for name in self._engines for spec in topology.ENGINE_DATABASES[name])

    @property
    def world_file(self) -> Path:
        return self.directory / "world.json"

    def __enter__(self) -> World:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def running(self) -> bool:
        """Whether it is up and every part of it is alive and answers."""
        ledger = self._ledger()
        if not (self.world_file.exists() and ledger.processes):
            return False
        world = World.load(self.world_file)
        return all(process.alive() for process in ledger.processes) and Control(world.aws_endpoint).healthy()

    def up(self, progress: Progress = silent) -> World:
        """Start everything and return when it is healthy; at once if it is running already with these engines.

        Raises MissingEngine when software is not installed, SandboxError when something does not start; either way
        nothing stays behind.
        """
        if self.running():
            world = World.load(self.world_file)
            if {spec.name for spec in self._specs} <= {database.name for database in world.databases}:
                progress("already up")
                return world
        self.down()
        try:
            return self._start(progress)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop what this sandbox started, whichever process started it, and nothing else. Logs stay."""
        ledger = self._ledger()
        self.world_file.unlink(missing_ok=True)
        processes.stop_all(ledger.processes)
        for file in ledger.pam_files:
            Path(file).unlink(missing_ok=True)
        if ledger.runtime is not None:
            shutil.rmtree(ledger.runtime, ignore_errors=True)
        ledger.file.unlink(missing_ok=True)

    def _ledger(self) -> processes.Ledger:
        return processes.Ledger.load(self.directory / "started.json")

    def _start(self, progress: Progress) -> World:
        for engine in self._engines.values():
            engine.check()  # before anything slow, so that a machine without it says so at once
        for engine in self._engines.values():
            engine.fetch(progress)
        (self.directory / "logs").mkdir(parents=True, exist_ok=True)
        for log_file in (self.directory / "logs").iterdir():
            log_file.unlink()
        ledger = self._ledger()
        runtime = _make_runtime()
        ledger.set_runtime(runtime)
        with ThreadPoolExecutor(max_workers=len(self._engines) + 1) as pool:
            aws = pool.submit(self._start_aws, runtime, ledger, progress)
            authority = self._make_authority()
            quarters = self._prepare_pam(runtime, ledger)
            progress(f"preparing {', '.join(self._engines)}")
            ground = Ground(
                runtime=runtime,
                logs=self.directory / "logs",
                authority=authority,
                quarters=quarters,
                ledger=ledger,
                max_connections=self._max_connections,
            )
            starting = [
                pool.submit(engine.launch, ground, topology.ENGINE_DATABASES[name])
                for name, engine in self._engines.items()
            ]
            aws_endpoint, key_id, secret = aws.result()
            databases = tuple(database for start in starting for database in start.result())
        for database in databases:
            progress(f"database {database.name}: {database.endpoint} listens on {database.local_endpoint}")
        world = World(
            directory=str(self.directory),
            aws_endpoint=aws_endpoint,
            region=topology.REGION,
            broker_account_id=topology.BROKER_ACCOUNT,
            broker_user_arn=topology.BROKER_USER_ARN,
            broker_role_arn=topology.BROKER_ROLE_ARN,
            broker_access_key_id=key_id,
            broker_secret_access_key=secret,
            ca_cert_file=str(self.directory / "ca.pem"),
            ca_key_file=str(self.directory / "ca.key"),
            databases=databases,
            password_users=PASSWORD_USERS,
        )
        world.save(self.world_file)
        return world

    def _make_authority(self) -> CertificateAuthority:
        authority = CertificateAuthority.create()
        authority.save(self.directory / "ca.pem", self.directory / "ca.key")
        return authority

    def _prepare_pam(self, runtime: Path, ledger: processes.Ledger) -> pam.Quarters:
        module = runtime / "pam_token.so"
        pam.build_module(_SANDBOX_CODE / "pam_token.c", module)
        quarters = pam.find_quarters(runtime)
        if quarters.files_outlive_servers:
            pam.remove_stale_services()
        pam.write_services(
            quarters,
            [service_name(runtime, spec) for spec in self._specs],
            module=module,
            verify_socket=runtime / "verify.sock",
            remember=ledger.add_pam_file,
        )
        return quarters

    def _start_aws(self, runtime: Path, ledger: processes.Ledger, progress: Progress) -> tuple[str, str, str]:
        """Endpoint, access key id and secret of the broker's user."""
        python = ministack_venv.ensure(progress)
        progress("starting AWS (ministack)")
        ready_file, settings_file, scratch = runtime / "aws.ready", runtime / "aws.json", runtime / "tmp"
        scratch.mkdir()
        targets = {service_name(runtime, spec): _login_target(spec) for spec in self._specs}
        settings = {
            "verify_socket": str(runtime / "verify.sock"),
            "http_socket": str(runtime / "http.sock"),
            "ready_file": str(ready_file),
            "targets": targets,
            "warehouses": [_warehouse(spec, runtime) for spec in self._specs if spec.product.startswith("redshift")],
            "search": [_search(spec, runtime) for spec in self._specs if spec.protocol == "opensearch"],
            "inventory": [resource for spec in self._specs for resource in estate.resources(spec)],
            "psql": str(postgres.binaries() / "psql") if "redshift" in self._engines else "",
            "machine_role_arn": topology.BROKER_ROLE_ARN,
            "orphaned_command": None if self._detached else self._down_command(),
        }
        settings_file.write_text(json.dumps(settings))
        log_file = self.directory / "logs" / "aws.log"
        process = processes.start(
            "aws",
            (str(python), "-m", "aws", str(settings_file)),
            log_file=log_file,
            # Nothing of our own environment: AWS_ACCESS_KEY_ID there would become ministack's root key.
            environment={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(scratch),
                "TMPDIR": str(scratch),
                "PYTHONPATH": str(_SANDBOX_CODE),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        ledger.add_process(process)
        endpoint = _wait_for_aws(ready_file, process, log_file)
        key_id, secret = Accounts(endpoint).seed()
        if "dynamodb" in self._engines:
            dynamodb.seed(endpoint)
        progress(f"AWS: accounts {', '.join(topology.ACCOUNTS)} at {endpoint}")
        return endpoint, key_id, secret

    def _down_command(self) -> list[str]:
        root = str(ministack_venv.REPOSITORY)
        module = [sys.executable, "-m", "deploy.sandbox", "down", "--dir", str(self.directory)]
        return ["env", f"PYTHONPATH={root}", *module]


def _make_runtime() -> Path:
    """A short directory that the servers' user may pass through; its name is also the PAM services' prefix."""
    base = tempfile.gettempdir()
    name = f"{pam.SERVICE_PREFIX}{secrets.token_hex(4)}"
    if len(base) + len(name) + max(len(spec.name) for spec in topology.DATABASES) + 20 > SOCKET_PATH_LIMIT:
        base = "/tmp"  # noqa: S108 - the name is random, the directory ours alone
    runtime = Path(base, name)
    runtime.mkdir(mode=0o711)
    runtime.chmod(0o711)  # whatever the umask
    return runtime


def _login_target(spec: topology.DatabaseSpec) -> dict[str, object]:
    facts = asdict(spec)
    return {
        "database": spec.name,
        "hostname": spec.host,
        "region": topology.REGION,
        **{key: facts[key] for key in ("product", "port", "account_id", "resource_id")},
    }


def _warehouse(spec: topology.DatabaseSpec, runtime: Path) -> dict[str, object]:
    return {
        "product": spec.product,
        "identifier": spec.host.partition(".")[0],
        "resource_id": spec.resource_id,
        "account_id": spec.account_id,
        "region": topology.REGION,
        "hostname": spec.host,
        "port": spec.port,
        "directory": str(runtime / spec.name),
    }


def _search(spec: topology.DatabaseSpec, runtime: Path) -> dict[str, object]:
    return {
        "host": spec.host,
        "service": "es" if spec.product == "opensearch" else "aoss",
        "account_id": spec.account_id,
        "region": topology.REGION,
        "resource_id": spec.resource_id,
        "database": spec.name,
        "port_file": str(opensearch.port_file(runtime, spec)),
    }


def _wait_for_aws(ready_file: Path, process: processes.StartedProcess, log_file: Path) -> str:
    deadline = time.monotonic() + processes.START_SECONDS
    while process.alive() and time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            endpoint = f"http://127.0.0.1:{json.loads(ready_file.read_text())['port']}"
            if Control(endpoint).healthy():
                return endpoint
        time.sleep(processes.POLL_SECONDS)
    raise did_not_start("the AWS process", log_file)
