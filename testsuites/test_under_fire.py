# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a command, it leaves no QEMU behind; a machine that is up stays up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import await_no_qemu, machines, popcorn, qemus, started

_UP = ("up", "--machine", "small", "--policy", "per-node", "--accel", "tcg")
_START_S = 120.0
_GONE_S = 8.0


def _await_none_up() -> None:
    # The supervisor saves the last words before it goes.
    deadline = time.monotonic() + _GONE_S
    while any(listed["status"] != "dead" for listed in machines()):
        assert time.monotonic() < deadline, machines()
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_up_that_is_ended_before_it_finished_leaves_no_qemu(number: signal.Signals, private_dirs: Path) -> None:
    with started(*_UP, "--cold", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + _START_S
        while not qemus(private_dirs):
            assert process.poll() is None, "it ended before QEMU was seen"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, number)
        process.wait(timeout=_GONE_S)
        await_no_qemu(private_dirs, _GONE_S)
    assert process.returncode not in (0, None)
    _await_none_up()


def test_a_machine_stays_up_until_down_and_its_name_is_taken(private_dirs: Path) -> None:
    try:
        done = popcorn(*_UP)
        assert done.returncode == 0, done.stderr
        assert [listed["status"] for listed in machines()] == ["up"]
        second = popcorn(*_UP)
        assert second.returncode == 2
        assert "up already" in second.stderr
        assert "popcorn down" in second.stderr
        assert len(qemus(private_dirs)) == 1
        answer = popcorn("exec", "all", "--", "sh", "-c", "exit 0")
        assert answer.returncode == 0, answer.stderr
    finally:
        ended = popcorn("down", "--all")
    assert ended.returncode == 0, ended.stderr
    assert machines() == []
    await_no_qemu(private_dirs, _GONE_S)
