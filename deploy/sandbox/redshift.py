"""PostgreSQL servers that play Redshift: only temporary users get in, over TLS, with an md5 password.

Who they are is the business of the AWS process (``aws.temporary_users``), which makes and ends them over the servers'
unix sockets. What Redshift's drivers say of themselves at the start is taken (``redshift_parameters.c``).
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.sandbox import commands, ministack_venv, pam, postgres, topology
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database

SOURCE = Path(__file__).with_name("redshift_parameters.c")

_HBA = f"""\
local     all  postgres                     trust
hostssl   all  +temporary     127.0.0.1/32  md5
hostssl   all  {",".join(topology.PASSWORD_DB_USERS)}  127.0.0.1/32  reject
hostssl   all  all            127.0.0.1/32  md5
hostnossl all  all            127.0.0.1/32  reject
"""
"""Whoever does not exist is asked for a password, as on Redshift; users of the seed that have one are not let in."""


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One server for each cluster or workgroup, all at once."""
    template = postgres.ensure_template(ministack_venv.CACHE, ground.runtime, ground.quarters)
    module = ground.runtime / "redshift_parameters.so"
    pam.build_module(SOURCE, module, libraries=(f"-DMAJOR={postgres.major_version()}",))
    with ThreadPoolExecutor(max_workers=len(specs)) as pool:
        return list(pool.map(lambda spec: _launch(ground, spec, template, module), specs))


def _launch(ground: Ground, spec: topology.DatabaseSpec, template: Path, module: Path) -> Database:
    server = postgres.Server(
        name=spec.name,
        directory=ground.make_directory(spec.name),
        log_file=ground.logs / f"redshift-{spec.name}.log",
    )
    ground.authority.issue(server.certificate_file, server.key_file, dns_names=[spec.host])
    postgres.prepare(
        server,
        template,
        ground.quarters,
        hba=_HBA,
        max_connections=ground.max_connections,
        more_settings=f"shared_preload_libraries = '{module}'\n",
    )
    port = postgres.start(server, ground.quarters, ground.ledger)
    dsn = server.superuser_dsn(port, topology.DB_NAME)
    commands.run(postgres.binaries() / "psql", "--no-psqlrc", "--quiet", "--dbname", dsn, "--command", _PREPARE)
    return Database.of(spec, local_port=port, superuser_dsn=dsn)


_PREPARE = "CREATE ROLE temporary NOLOGIN; GRANT SELECT ON orders TO temporary"
