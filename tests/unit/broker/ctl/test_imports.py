"""What the operator's command line needs to be installed."""

from __future__ import annotations

import subprocess
import sys

PROBE = "import sys, broker.ctl.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"


def test_it_needs_neither_aws_sdk_nor_what_daemons_need() -> None:
    """The extra [cli] is the base, click, pydantic and pyyaml."""
    loaded = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60)
    names = set(loaded.stdout.split())
    assert not names & {"boto3", "botocore", "prometheus_client", "tenacity", "uvloop", "grpc_health", "proxy"}
    assert "grpc" not in names, "help and what works offline do not wait for gRPC"
