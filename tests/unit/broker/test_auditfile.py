"""The file of audit lines: whole lines, whatever the disk does."""

from __future__ import annotations

import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.auditfile import AuditFile


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def test_a_line_after_one_that_a_full_disk_cut_stands_alone(tmp_path: Path) -> None:
    """No credential without its line: one that hangs on another's beginning is read by nobody."""
    path = tmp_path / "audit.log"
    audit = AuditFile(str(path))
    audit.write('{"a":1}')
    for size in (12, 14):
        with full_after(size), pytest.raises(OSError, match="large"):
            audit.write('{"b":2222222222}')
    audit.write('{"c":3}')
    audit.write('{"d":4}')
    lines = path.read_text().splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == ('{"a":1}', '{"b"', '{"c":3}', '{"d":4}')


def test_a_disk_that_took_nothing_leaves_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditFile(str(path))
    audit.write('{"a":1}')
    with full_after(8), pytest.raises(OSError, match="large"):
        audit.write('{"b":2}')
    audit.write('{"c":3}')
    assert path.read_text() == '{"a":1}\n{"c":3}\n'


def test_a_rotated_file_is_left_and_the_new_one_is_the_owners_and_his_groups(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditFile(str(path))
    with full_after(3), pytest.raises(OSError, match="large"):
        audit.write('{"a":1}')
    path.rename(tmp_path / "audit.log.1")
    audit.reopen()
    audit.write('{"b":2}')
    assert path.read_text() == '{"b":2}\n'
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
