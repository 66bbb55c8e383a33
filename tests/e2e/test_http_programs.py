"""npm's SDK and OpenSearch client, the AWS CLI and curl, through the proxy to DynamoDB and OpenSearch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.sandbox import topology
from deploy.sandbox.bridge import Bridge
from tests.e2e.clients import PROGRAM_SECONDS, run
from tests.e2e.conftest import missing
from tests.e2e.http_clients import USER

NODE: Final = Path(__file__).with_name("node")
CURL_LINE: Final = "apt-get install -y --no-install-recommends curl"


def test_npms_sdk_and_opensearch_client(http_bridge: Bridge) -> None:
    """CRUD, batches, transactions, pages, 200 calls at once; bulk, scroll, strange ids; refusals that read well."""
    if shutil.which("node") is None or not (NODE / "node_modules" / "@aws-sdk").exists():
        missing("node and its AWS clients are not installed. Install them: apt-get install npm; make node-clients")
    ports = [str(http_bridge.ports[name]) for name in ("tables", "search")]
    done = run("node", str(NODE / "http_clients.mjs"), *ports, USER)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == ["dynamodb", "refused", "opensearch"]


# The AWS CLI


def aws(program: Path, bridge: Bridge, *arguments: str, user: str = USER) -> subprocess.CompletedProcess[str]:
    """One command of it, with keys that mean nothing and the endpoint as its only setting."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{bridge.ports['tables']}",
        "AWS_REGION": topology.REGION,
        "AWS_DEFAULT_REGION": topology.REGION,
        "AWS_ACCESS_KEY_ID": user,
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return subprocess.run(
        [str(program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )


def test_the_aws_cli_reads_and_writes(http_bridge: Bridge, aws_cli: Path) -> None:
    item = {"id": {"S": "cli"}, "state": {"S": "new"}}
    place = ("--table-name", "orders")
    put = aws(aws_cli, http_bridge, "dynamodb", "put-item", *place, "--item", json.dumps(item))
    assert put.returncode == 0, put.stderr
    key = json.dumps({"id": item["id"]})
    got = aws(aws_cli, http_bridge, "dynamodb", "get-item", *place, "--key", key, "--output", "json")
    assert json.loads(got.stdout)["Item"] == item
    assert aws(aws_cli, http_bridge, "dynamodb", "delete-item", *place, "--key", key).returncode == 0


def test_the_aws_cli_shows_a_refusal(http_bridge: Bridge, aws_cli: Path) -> None:
    refused = aws(aws_cli, http_bridge, "dynamodb", "list-tables", user="role/NobodysRole")
    assert refused.returncode != 0
    assert "AccessDeniedException" in refused.stderr
    assert "role/NobodysRole" in refused.stderr


# curl


def curl(bridge: Bridge, database: str, path: str, *more: str, user: str = USER) -> tuple[int, Any]:
    """Status and document of one request."""
    if shutil.which("curl") is None:
        missing(f"curl is not installed. Install it: {CURL_LINE}")
    service = "dynamodb" if database == "tables" else "es"
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}"),
            *("--aws-sigv4", f"aws:amz:{topology.REGION}:{service}", "--user", f"{user}:anything"),
            *more,
            f"http://127.0.0.1:{bridge.ports[database]}{path}",
        ],
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=True,
    )
    document, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(document)


def test_curl_asks_opensearch(http_bridge: Bridge) -> None:
    status, document = curl(http_bridge, "search", "/")
    assert (status, document["version"]["distribution"]) == (200, "opensearch")
    json_body = ("--header", "Content-Type: application/json", "--data", '{"query":{"match_all":{}}}')
    status, document = curl(http_bridge, "search", "/_search?size=0", *json_body)
    assert (status, document["timed_out"]) == (200, False)
    status, document = curl(http_bridge, "search", "/", user="role/NobodysRole")
    assert status == 403
    assert "role/NobodysRole" in json.dumps(document)


@pytest.mark.parametrize("framing", ["a length", "chunks", "after 100 Continue"])
def test_curl_sends_a_body_in_every_way_there_is(http_bridge: Bridge, framing: str, tmp_path: Path) -> None:
    document = tmp_path / "document.json"
    document.write_text(json.dumps({"TableName": "orders", "Filler": "x" * 2_000_000}))
    more = {
        "a length": ("--header", "Expect:"),
        "chunks": ("--header", "Transfer-Encoding: chunked", "--header", "Expect:"),
        "after 100 Continue": ("--header", "Expect: 100-continue", "--expect100-timeout", "30"),
    }[framing]
    status, answer = curl(
        http_bridge,
        "tables",
        "/",
        *("--header", "X-Amz-Target: DynamoDB_20120810.DescribeTable"),
        *("--header", "Content-Type: application/x-amz-json-1.0"),
        *("--data-binary", f"@{document}", *more),
    )
    assert (status, answer.get("Table", {}).get("TableName")) == (200, "orders"), answer
