from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from tollbridge.process import telemetry
from tollbridge.process.telemetry import Counters
from tollbridge.secret import Secret


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    telemetry.start_logging("debug", stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_fields(stream: io.StringIO) -> None:
    logging.getLogger("a.b").info("took %d ms\nand more", 5, extra={telemetry.DATABASE: "orders"})
    (line,) = lines(stream)
    assert line.pop("at").endswith("+00:00")
    assert line == {"level": "info", "logger": "a.b", "message": "took 5 ms\nand more", "database": "orders"}


def test_a_secret_is_never_written(stream: io.StringIO) -> None:
    secret = Secret("hunter2")
    log = logging.getLogger("a")
    log.warning("%s %r", secret, [secret], extra={"password": secret, "all": {"x": secret}, "seq": (secret,)})
    log.error(f"{secret} {secret!r} {secret:>20}")  # noqa: G004 - the careless way is what is tested
    try:
        raise ValueError(secret)  # noqa: TRY301 - its message is what is tested
    except ValueError:
        log.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("Secret(hidden)") >= 7


def test_libraries_that_log_credentials_are_kept_quiet(stream: io.StringIO) -> None:
    for name in ("botocore.auth", "urllib3.connectionpool", "boto3", "grpc._cython"):
        logging.getLogger(name).debug("Authorization: AWS4-HMAC-SHA256 ...")
        logging.getLogger(name).info("token")
    logging.getLogger("broker").debug("ours")
    assert [line["logger"] for line in lines(stream)] == ["broker"]


def test_a_long_line_is_bounded(stream: io.StringIO) -> None:
    logging.getLogger("a").info("x" * 1_000_000)
    assert len(stream.getvalue()) < 10_000


def test_plain_ints_become_an_exposition() -> None:
    counters = Counters(process_metrics=False)
    logins = counters.counter("tb_logins", "Logins.", ("reason",))
    plain = counters.counter("tb_plain", "Without labels.")
    seconds = counters.histogram("tb_login_seconds", "Time.", (0.1, 1.0), ("protocol",))
    state = {"open": 3}
    counters.read_gauge("tb_open", "Open.", lambda: state["open"])
    counters.read_counter("tb_bytes", "Bytes.", lambda: {("in",): 5, ("out",): 7}, ("direction",))
    logins.add("OK")
    logins.add("OK", amount=2)
    for value in (0.05, 0.1, 0.5, 3.0):
        seconds.observe(value, "postgres")
    text = counters.exposition().decode()
    for line in (
        'tb_logins_total{reason="OK"} 3.0',
        "tb_plain_total 0.0",
        'tb_login_seconds_bucket{le="0.1",protocol="postgres"} 2.0',
        'tb_login_seconds_bucket{le="1.0",protocol="postgres"} 3.0',
        'tb_login_seconds_bucket{le="+Inf",protocol="postgres"} 4.0',
        'tb_login_seconds_count{protocol="postgres"} 4.0',
        "tb_open 3.0",
        'tb_bytes_total{direction="out"} 7.0',
    ):
        assert line in text
    assert plain.values == {(): 0}


def test_the_process_itself_is_measured() -> None:
    assert b"process_resident_memory_bytes" in Counters().exposition()
