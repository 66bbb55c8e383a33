"""Temporary users in the PostgreSQL servers that play Redshift.

An issued user is a role that may log in until it expires, with an md5 password as Redshift has them. PostgreSQL keeps
one password for each role where Redshift takes every one that has not expired, so a user that is issued again while
it lives keeps its password and gets more time.
"""

import asyncio
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SQL_TIMEOUT_SECONDS = 10.0
GROUP = "temporary"
"""The role whose members the servers let in; made when a server starts."""

_SAFE = re.compile(r"[A-Za-z0-9_+=,.@:-]{1,128}")

_ISSUE = """\
SET password_encryption = 'md5';
{create}SELECT {needs_role} AS known \\gset
\\if :known
SELECT 'CREATE ROLE "{name}" LOGIN IN ROLE {group}' WHERE to_regrole('"{name}"') IS NULL \\gexec
ALTER ROLE "{name}" PASSWORD '{password}' VALID UNTIL '{expires_at}';
{act}\\endif
"""
_CREATE = """SELECT 'CREATE ROLE "{0}"' WHERE to_regrole('"{0}"') IS NULL \\gexec\n"""
_ACT = """GRANT "{acts_as}" TO "{name}";\nALTER ROLE "{name}" SET role = '{acts_as}';\n"""
_EXPIRE = """\
SELECT format('ALTER ROLE %I VALID UNTIL %L', rolname, now() - interval '1 second')
FROM pg_roles WHERE pg_has_role(oid, '{group}', 'member') AND rolcanlogin AND NOT rolsuper \\gexec
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom to let in. ``acts_as`` is a user that exists: without it the login will fail, as on Redshift."""

    name: str
    acts_as: str | None = None
    create: bool = False
    """Make ``acts_as`` first if it is missing."""


class TemporaryUsers:
    """Of several servers, each known by the directory of its unix socket."""

    def __init__(self, directories: Iterable[str], psql: str) -> None:
        self._directories = tuple(directories)
        self._psql = psql
        self._live: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._lock = asyncio.Lock()

    async def issue(self, directory: str, user: User, expires_at: datetime) -> str:
        """The password. Raises ValueError for a name that is none, RuntimeError when the server does not obey."""
        for name in (user.name, user.acts_as or "x"):
            if not _SAFE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a user")
        async with self._lock:
            password, until = self._live.get((directory, user.name), ("", expires_at))
            if not password or until <= datetime.now(UTC):
                password, until = secrets.token_urlsafe(48), expires_at
            until = max(until, expires_at)
            known = f"""to_regrole('"{user.acts_as}"') IS NOT NULL""" if user.acts_as else "true"
            sql = _ISSUE.format(
                name=user.name,
                group=GROUP,
                password=password,
                expires_at=until.isoformat(),
                create=_CREATE.format(user.acts_as) if user.create else "",
                needs_role=known,
                act=_ACT.format(name=user.name, acts_as=user.acts_as) if user.acts_as else "",
            )
            await _run(self._psql, directory, sql)
            self._live[directory, user.name] = (password, until)
            return password

    async def expire(self) -> None:
        """Let the time of all of them be up."""
        async with self._lock:
            self._live.clear()
            for directory in self._directories:
                await _run(self._psql, directory, _EXPIRE.format(group=GROUP))


def _port(directory: str) -> str:
    for file in Path(directory).glob(".s.PGSQL.*"):
        if file.suffix != ".lock":
            return file.suffix.removeprefix(".")
    raise RuntimeError(f"no server in {directory}")


async def _run(psql: str, directory: str, sql: str) -> None:
    port = _port(directory)
    # Through its standard input: a command line can be read by anybody on the machine.
    where = f"host={directory} port={port} user=postgres dbname=postgres"
    process = await asyncio.create_subprocess_exec(
        *(psql, where, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SQL_TIMEOUT_SECONDS):
        said, _ = await process.communicate(sql.encode())
    if process.returncode:
        raise RuntimeError(f"psql failed: {said.decode(errors='replace')[-300:]}")
