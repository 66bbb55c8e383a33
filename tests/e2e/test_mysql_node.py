"""npm's mysql2 and mariadb through the proxy to MariaDB."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.clients import SIDES, run
from tests.e2e.conftest import missing
from tests.e2e.mysql_bridge import DATABASE, MysqlBridge
from tests.e2e.test_mysql_clients import my

__all__ = ["my"]  # the fixture

NODE: Final = Path(__file__).with_name("node")


NEEDS: Final = {"mysql2": 18, "mariadb": 20}
"""Node's major version that each client asks for; Debian 12 has 18."""


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("client", NEEDS)
def test_npm_clients(my: MysqlBridge, client: str, side: str) -> None:
    """Prepared statements, transactions, several results, MariaDB's bulk inserts and reset; and what is refused."""
    if shutil.which("node") is None or not (NODE / "node_modules/mysql2").exists():
        missing("node and its MySQL clients are not installed. Install them: apt-get install npm; make node-clients")
    major = int(run("node", "-p", "process.versions.node").stdout.split(".")[0])
    if major < NEEDS[client]:
        pytest.skip(f"the {client} client wants Node {NEEDS[client]} or newer; this is {major}")
    more = [my.ca] if side == "tls" else []
    done = run("node", str(NODE / "mysql_clients.mjs"), client, str(my.port(DATABASE)), *more)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert len(seen) == 2
    for each in seen:
        assert (each["who"], each["name"], each["extra"]) == ("app@%", "Grace", [1, 2])
        assert "COM_CHANGE_USER is refused" in each["changed"]
        assert "DB_USER_NOT_ALLOWED" in each["denied"]
