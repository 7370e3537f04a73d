# SPDX-License-Identifier: Apache-2.0
"""What survives the primary, and what no kernel survives."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import machines, popcorn

from popcorn.machine.machine import Machine
from popcorn.testing import EVERY_SERIES, Kernel

_DEADLINE_S = 90.0
# Each round sends messages and frames to a neighbour, and tells of it where it is seen from outside.
_WORK = """
n=0
while :; do
  case $(popcorn-msg stream $1 -n 50 -l 1000 2>&1) in
    *'"delivered": 50,'*) ;;
    *) echo WRONG: messages >/dev/kmsg ;;
  esac
  busybox ping -q -c 1 -W 20 10.80.0.$(($1 + 1)) >/dev/null || echo WRONG: frames >/dev/kmsg
  n=$((n + 1))
  echo $2 $n >/dev/kmsg
  sleep 0.2
done
"""


# Others may have counted rounds of theirs in the same log.
_ROUND = "round beside the primary"


def _rounds(machine: Machine, id: int) -> int:
    """How many rounds a kernel has told of, all without an error."""
    text = "\n".join(entry.text for entry in machine.log(id))
    assert "WRONG" not in text
    return max((int(number) for number in re.findall(rf"{_ROUND} (\d+)", text)), default=0)


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_the_others_outlive_the_primary_but_not_its_ways_to_them(
    machine: Machine, kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    primary, *others = kernels
    for one, next in zip(others, (*others[1:], others[0]), strict=True):
        put = f"cat >/tmp/rounds <<'end'\n{_WORK}\nend\n"
        kernel(one).shell(f"{put}(exec sh /tmp/rounds {next} '{_ROUND}') </dev/null >/dev/null 2>&1 &")
    _await(lambda: all(_rounds(machine, id) >= 2 for id in others), "the work does not begin")

    kernel(primary).shell("(sleep 0.3; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &")
    _await(lambda: machine.ps()[0].state == "dead", "the primary did not die of sysrq c")

    # What they do among themselves goes on: computing, timers, messages, frames.
    done = {id: _rounds(machine, id) for id in others}
    _await(lambda: all(_rounds(machine, id) >= done[id] + 3 for id in others), f"some do not go on after {done}")
    assert {(one.state, one.health) for one in machine.ps()[1:]} == {("running", "ok")}
    told = popcorn("diagnose", "--name", machine.name, "--json")
    assert [one["kernel"] for one in json.loads(told.stdout)["kernels"] if not one["in_order"]] == [primary]
    # Every way from outside to them led through it.
    refused = popcorn("exec", "--name", machine.name, str(others[0]), "--", "true")
    assert refused.returncode == 3
    assert f"the primary of machine {machine.name!r} has ended" in refused.stderr


def test_a_triple_fault_resets_the_machine_and_that_is_told(private_dirs: Path) -> None:
    """The processor resets the machine then, whichever kernel it executes: no kernel can prevent it."""
    up = popcorn("up", "--machine", "small", "--policy", "0;1;2", "--accel", "tcg")
    assert up.returncode == 0, up.stderr
    try:
        popcorn(
            "exec", "2", "--", "sh", "-c", "(sleep 0.3; echo triple >/proc/popcorn/fault) </dev/null >/dev/null 2>&1 &"
        )
        _await(lambda: [one["status"] for one in machines()] == ["dead"], "the machine goes on")
        told = popcorn("diagnose")
        assert told.returncode == 1
        assert "reset without a word (a triple fault of a kernel, or a reset)" in told.stdout
    finally:
        popcorn("down", "--all")
