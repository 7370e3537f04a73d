# SPDX-License-Identifier: Apache-2.0
"""The one way to run a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from popcorn.errors import DiskFullError, HostError
from popcorn.process import dying_with_parent, first_error_line, run


def test_output_and_status_come_back() -> None:
    done = run(["sh", "-c", "cat; echo problem >&2; exit 3"], input="text", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("text", "problem\n", 3)


def test_binary_output_is_not_changed() -> None:
    payload = bytes(range(256)) * 1000
    assert run(["cat"], input=payload).stdout_bytes == payload


def test_a_failure_names_the_command_its_status_and_the_first_error() -> None:
    with pytest.raises(HostError) as caught:
        run(["sh", "-c", "echo building; echo 'x.c:3: error: no' >&2; echo later error >&2; exit 2"])
    assert "ended with status 2" in str(caught.value)
    assert "x.c:3: error: no" in str(caught.value)
    assert "sh -c" in str(caught.value)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(HostError, match="no-such-program"):
        run(["no-such-program"])


def test_a_full_disk_is_told_as_such() -> None:
    with pytest.raises(DiskFullError):
        run(["sh", "-c", "echo 'write error: No space left on device' >&2; exit 1"])


def test_the_log_gets_both_streams_and_is_named_in_the_error(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"
    run(["echo", "first"], log=log)
    with pytest.raises(HostError, match=r"build\.log"):
        run(["sh", "-c", "echo second >&2; exit 1"], log=log)
    assert "first\n" in log.read_text()
    assert "second\n" in log.read_text()


def test_lines_are_handed_over_as_they_appear() -> None:
    seen: list[str] = []
    done = run(["sh", "-c", "echo a; echo b >&2; cat"], input="c\n", on_line=seen.append)
    assert sorted(seen) == ["a", "b", "c"]
    assert sorted(done.stdout.split()) == ["a", "b", "c"]


def test_a_timeout_ends_the_program_and_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(HostError, match=r"did not end within 0\.3 s"):
        run(["sh", "-c", f"sleep 60 & echo $! >{pid_file}; wait"], timeout=0.3)
    assert _ended(int(pid_file.read_text()))


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"from popcorn.process import run; run(['sh', '-c', 'echo $$ >{pid_file}; exec sleep 60'])"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    _wait_for(lambda: pid_file.exists() and pid_file.read_text().strip() != "", "the child's pid")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _ended(int(pid_file.read_text()))


def test_a_death_signal_is_put_in_front_of_the_command() -> None:
    argv = dying_with_parent(["qemu", "-m"], death_signal="KILL")
    assert argv[-2:] == ["qemu", "-m"]
    assert "KILL" in argv


def test_a_child_whose_parent_died_before_it_asked_for_the_signal_does_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    # To the shell in between this process is as good as dead: it is not the parent.
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *dying_with_parent(["touch", str(made)])], check=True)
    assert not made.exists()
    subprocess.run(dying_with_parent(["touch", str(made)]), check=True)
    assert made.exists()


def test_the_first_error_line_is_the_cause_not_the_last_line() -> None:
    lines = ["  CC a.o", "a.c:1:2: error: expected ';'", "make[1]: *** [a.o] Error 1", "make: *** Error 2"]
    assert first_error_line(lines) == "a.c:1:2: error: expected ';'"
    assert first_error_line(["well", ""]) == "well"
    assert first_error_line([]) == ""


def _ended(pid: int) -> bool:
    def gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    _wait_for(gone, f"process {pid} to end")
    return True


def _wait_for(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"waited 10 s for {what}"
        time.sleep(0.02)
