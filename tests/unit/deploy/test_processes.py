"""Only what a sandbox started is stopped, and a later process can do it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from deploy.sandbox import pam, processes

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
)


def test_a_started_process_is_stopped_through_the_ledger(tmp_path: Path) -> None:
    ledger = processes.Ledger.load(tmp_path / "started.json")
    ledger.add_process(processes.start("sleep", SLEEP, log_file=tmp_path / "log", environment={}))
    reread = processes.Ledger.load(tmp_path / "started.json")
    assert reread.processes == ledger.processes
    assert reread.processes[0].alive()
    processes.stop_all(reread.processes)
    assert not ledger.processes[0].alive()


def test_a_deaf_process_is_killed(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    process = processes.start("deaf", DEAF, log_file=log_file, environment={})
    while not log_file.read_text():
        assert process.alive()
    processes.stop_all([process], timeout_seconds=0.2)
    assert not process.alive()


def test_a_process_id_given_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    process = processes.start("sleep", SLEEP, log_file=tmp_path / "log", environment={})
    try:
        stranger = replace(process, started_at_ticks=process.started_at_ticks - 1)
        assert not stranger.alive()
        stranger.send(signal.SIGKILL)
        processes.stop_all([stranger])
        assert process.alive()
    finally:
        processes.stop_all([process])


def test_a_process_that_never_was_is_not_alive() -> None:
    gone = subprocess.run(["true"], check=True)
    assert gone.returncode == 0
    assert not processes.StartedProcess(name="none", pid=2**22 + 1, started_at_ticks=1).alive()
    assert processes.StartedProcess(name="zero", pid=os.getpid(), started_at_ticks=0).alive() is False


def test_service_files_whose_module_is_gone_are_swept(tmp_path: Path) -> None:
    module = tmp_path / "pam_token.so"
    module.touch()
    files = {
        "tb-live-local": f"auth required {module} /x/verify.sock\n",
        "tb-dead-local": "auth required /nowhere/tb-dead/pam_token.so /x/verify.sock\n",
        "tb-somebody-elses": "auth required pam_unix.so\n",
        "login": "auth required /nowhere/pam_token.so /x\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    pam.remove_stale_services(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tb-live-local", "tb-somebody-elses", "login", "pam_token.so"}
