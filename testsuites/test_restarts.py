# SPDX-License-Identifier: Apache-2.0
"""A kernel is started again and again while its neighbours work: nothing is lost, nothing adds up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from command import popcorn
from faults import asked, assert_back, await_said, inflict
from messages import answers
from proc import fields
from workload import working

from popcorn.machine.machine import Machine
from popcorn.testing import EVERY_SERIES, Kernel
from popcorn.testing.switches import slow

_VICTIM = 3
_RESTARTS = 100 if slow() else 3
# Of what the primary gets back of its memory; the rest are caches and what ssh connections leave.
_LEAK_BYTES_EACH = 64 << 10
_LEAK_BYTES = 4 << 20
_DEADLINE_S = 60.0


def _free_bytes(kernel: Kernel) -> int:
    """Memory that a kernel has, but for caches that it can drop."""
    told = fields(kernel.shell("sync; echo 3 >/proc/sys/vm/drop_caches; cat /proc/meminfo"))
    return int(told["MemFree"][0].removesuffix(" kB")) << 10


@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_a_kernel_comes_back_each_time_and_nothing_leaks(
    machine: Machine, kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    others = [id for id in kernels if id != _VICTIM]

    def restart(number: int) -> None:
        # By turns in good order, by force, and by another kernel than the primary.
        how = ([], ["--force"], ["--force", "--by", "6"])[number % 3]
        done = popcorn("restart", "--name", machine.name, *how, str(_VICTIM))
        assert done.returncode == 0, done.stderr
        status = next(one for one in machine.ps() if one.id == _VICTIM)
        assert (status.state, status.stage, status.health) == ("running", "user", "ok")
        (told,) = answers(kernel(_VICTIM).shell("popcorn-msg stream 5 -n 10"))
        assert told["delivered"] == 10

    with working(machine, others) as work:
        # The tools are in place and caches are warm after the first three.
        for number in range(3):
            restart(number)
        generation = next(one.generation for one in machine.ps() if one.id == _VICTIM)
        before = {id: _free_bytes(kernel(id)) for id in (0, 6)}
        for number in range(_RESTARTS):
            restart(number)
        work.goes_on()
        after = {id: _free_bytes(kernel(id)) for id in (0, 6)}
        lost = {id: before[id] - after[id] for id in before}
        assert all(bytes < _LEAK_BYTES + _RESTARTS * _LEAK_BYTES_EACH for bytes in lost.values()), lost
        assert next(one.generation for one in machine.ps() if one.id == _VICTIM) == generation + _RESTARTS


@pytest.mark.machine("small", policy="0;1,3;2,5,7;4,6", scratch=True)
def test_a_cluster_is_stopped_whatever_it_does_and_comes_back_with_all_its_cpus(
    machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    inflict(kernel(2), asked("loop"))
    await_said(kernel(2), "fault on request: ")
    done = popcorn("restart", "--name", machine.name, "--force", "--by", "4", "2")
    assert done.returncode == 0, done.stderr
    assert kernel(2).shell("busybox nproc") == "3\n"


@pytest.mark.machine("small", policy="per-core", scratch=True)
def test_memory_that_a_kernel_that_hangs_may_write_to_is_not_given_away(
    machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    kernel(2).shell("popcorn-msg ping 4 -n 1")
    inflict(kernel(2), asked("loop"))
    await_said(kernel(2), "fault on request: ")
    refused = popcorn("restart", "--name", machine.name, "--force", "4")
    assert refused.returncode == 3
    assert "kernel 2 still uses memory of kernel 4" in refused.stderr
    remedy = f"restart --force 2,4 --name {machine.name}"
    assert f"`popcorn {remedy}`" in refused.stderr
    done = popcorn(*remedy.split())
    assert done.returncode == 0, done.stderr
    assert_back(kernel(2), kernel(4))


@pytest.mark.machine("small", policy="per-core", scratch=True)
def test_two_kernels_that_stop_each_other_leave_one(machine: Machine, kernel: Callable[[int], Kernel]) -> None:
    kexec = "PATH=/root/popcorn-tools:$PATH kexec --popcorn --stop"
    # The tools come with an order.
    for one in (5, 6):
        done = popcorn("restart", "--name", machine.name, "--by", str(one), "7")
        assert done.returncode == 0, done.stderr
    # They run as root, so nobody else may put anything there.
    assert kernel(5).shell("stat -c '%u %a' /root /root/popcorn-tools") == "0 755\n" * 2
    for one, other in ((5, 6), (6, 5)):
        kernel(one).shell(f"(sleep 1; {kexec} --boot={other}) </dev/null >/tmp/said 2>&1 &")
    dead = _await_one_dead(machine, (5, 6))
    assert kernel(11 - dead).shell("echo fine") == "fine\n"
    done = popcorn("start", "--name", machine.name, str(dead))
    assert done.returncode == 0, done.stderr


def _await_one_dead(machine: Machine, ids: tuple[int, int]) -> int:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        dead = [one.id for one in machine.ps() if one.id in ids and one.state == "dead"]
        assert len(dead) < 2, "both were stopped"
        if dead:
            return dead[0]
        assert time.monotonic() < deadline, "neither was stopped"
        time.sleep(0.1)
