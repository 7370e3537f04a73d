# SPDX-License-Identifier: Apache-2.0
"""A kernel that dies is noticed by all others, takes nothing of theirs with it, and its id joins again."""

from __future__ import annotations

import time
from collections import defaultdict

import pytest
from command import popcorn
from faults import asked, await_said, inflict
from messages import Row, answers, counters, refusal, rows

from popcorn.machine.machine import Machine
from popcorn.machine.status import KernelStatus
from popcorn.testing import Everywhere, KernelById

pytestmark = pytest.mark.machine("small", policy="per-core", scratch=True)

_VICTIM, _CALLER, _OTHER = 3, 2, 5
_DEADLINE_S = 60.0


def _status(machine: Machine) -> KernelStatus:
    return next(kernel for kernel in machine.ps() if kernel.id == _VICTIM)


def _start_again(machine: Machine) -> None:
    done = machine.exec(0, ["popcorn-launch", str(_VICTIM)], timeout_s=60)
    assert done.status == 0, done.stdout_text + done.stderr_text
    deadline = time.monotonic() + _DEADLINE_S
    while (status := _status(machine)).stage != "user" or status.state != "running":
        assert time.monotonic() < deadline, f"kernel {_VICTIM} is {status.state} at {status.stage}"
        time.sleep(0.2)


def _victims_row(kernel: KernelById, id: int) -> Row:
    """There is none of a kernel that is gone and with which nothing was exchanged."""
    return rows(kernel(id).shell("cat /proc/popcorn/messages")).get(_VICTIM, defaultdict(int))


def _await_reachable(kernel: KernelById, id: int, reachable: int) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while _victims_row(kernel, id)["reachable"] != reachable:
        assert time.monotonic() < deadline, f"kernel {id} does not notice that kernel {_VICTIM} came or went"
        time.sleep(0.2)


def test_a_kernel_dies_and_its_id_joins_again(
    machine: Machine, kernels: list[int], kernel: KernelById, everywhere: Everywhere
) -> None:
    """One story, because each death costs a boot."""
    caller, other = kernel(_CALLER), kernel(_OTHER)
    others = [id for id in kernels if id != _VICTIM]
    group = answers(other.shell("popcorn-msg group open"))[0]["group"]
    for id in (_VICTIM, _CALLER):
        kernel(id).shell(f"popcorn-msg group join {group}")
    # It takes messages no more, so that a call waits for certain when its end comes.
    inflict(kernel(_VICTIM), asked("loop"))
    await_said(kernel(_VICTIM), "fault on request: ")
    pinging = f"popcorn-msg ping {_VICTIM} >/dev/null 2>/tmp/said & echo $! >/tmp/pinging"
    caller.shell(f"{pinging}; sleep 1; kill -0 $(cat /tmp/pinging)")

    killed = popcorn("kill", "--name", machine.name, str(_VICTIM))
    assert killed.returncode == 0, killed.stderr
    assert _status(machine).state == "dead"

    # A call that waits for its answer fails, with an error that no other case has; later ones find nobody.
    caller.shell("while kill -0 $(cat /tmp/pinging) 2>/dev/null; do sleep 0.1; done")
    assert "went away without an answer" in caller.shell("cat /tmp/said")
    for id in others:
        _await_reachable(kernel, id, 0)
    assert "no such kernel" in refusal(caller, f"popcorn-msg ping {_VICTIM} -n 1")
    # The others go on, among themselves and in the group.
    line = answers(other.shell(f"popcorn-msg fanout {group} -n 10"))[0]
    assert line["delivered"] == 10, "to the living member alone"
    for id in others:
        for line in answers(kernel(id).shell("popcorn-msg stream all -n 10")):
            assert line["delivered"] == 10
            assert line["to"] != _VICTIM
    dead = {id: _victims_row(kernel, id) for id in others}

    _start_again(machine)

    for id in others:
        _await_reachable(kernel, id, 1)
    told = everywhere("popcorn-msg stream all -n 20")
    assert all(line["delivered"] == 20 for text in told.values() for line in answers(text))
    alive = counters(everywhere)
    for id in others:
        # The new life counts from 0; what the others count goes on.
        ours, theirs = alive[id][_VICTIM], alive[_VICTIM][id]
        assert ours["tx_msgs"] - dead[id]["tx_msgs"] == theirs["rx_msgs"] >= 20
        assert ours["rx_msgs"] - dead[id]["rx_msgs"] == theirs["tx_msgs"] >= 20
        assert theirs["rx_dropped"] == ours["rx_dropped"] == 0
    # A new life is a member of nothing.
    assert answers(other.shell(f"popcorn-msg fanout {group} -n 10"))[0]["delivered"] == 10
    other.shell(f"popcorn-msg group close {group}")


def test_a_second_kernel_with_the_same_id_is_refused_and_the_first_goes_on(
    machine: Machine, kernel: KernelById
) -> None:
    generation = _status(machine).generation
    done = machine.exec(0, ["popcorn-launch", str(_VICTIM)], timeout_s=60)
    assert done.status == 1
    assert f"{_VICTIM} failed: " in done.stdout_text
    assert any(word in done.stdout_text for word in ("in use", "busy", "running")), done.stdout_text
    assert _status(machine).generation == generation
    assert answers(kernel(_CALLER).shell(f"popcorn-msg stream {_VICTIM} -n 10"))[0]["delivered"] == 10
