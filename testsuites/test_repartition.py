# SPDX-License-Identifier: Apache-2.0
"""A machine that is up is cut anew: from one kernel that owns everything to many, and back (paper, figure 5.b)."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE

import pytest
from command import popcorn, started

from popcorn import cpulist
from popcorn.config.sizes import MIB
from popcorn.errors import GuestError
from popcorn.guest import owning
from popcorn.guest.repartition import repartition
from popcorn.guest.ssh import TimedOutError
from popcorn.image.programs import suite_program
from popcorn.machine.changing import changing
from popcorn.machine.machine import Machine
from popcorn.machine.owned import live_kernels
from popcorn.machine.status import KernelStatus
from popcorn.plan import Plan
from popcorn.plan.change import next_plan
from popcorn.plan.windows import subtract

pytestmark = pytest.mark.machine("small", policy="hotplug", scratch=True)

Everywhere = Callable[[str], dict[int, str]]
# What a kernel keeps for itself of its memory: image, page arrays, tables.
_OWN_SHARE = 0.12
_HUNG_WITHIN_S = 60.0
# The first is what the others start from, so that little moves between tests.
_FEW = "0-3;4;5-7"
_MORE = "0-1;2-3;4;5-7"
_TIMES = 10
_LEAK_KIB = 4096


def _cut(machine: Machine, policy: str, *words: str) -> Plan:
    """Cut it by another policy, as a user does."""
    done = popcorn("repartition", "--name", machine.name, "--policy", policy, *words)
    assert done.returncode == 0, done.stderr
    machine.refresh()
    assert machine.plan.policy == policy
    return machine.plan


def _refused(machine: Machine, policy: str) -> str:
    before = machine.plan
    done = popcorn("repartition", "--name", machine.name, "--policy", policy)
    assert done.returncode == 2, done.stderr
    machine.refresh()
    assert machine.plan == before
    return done.stderr


def _kernel(machine: Machine, id: int) -> KernelStatus:
    return next(kernel for kernel in machine.ps() if kernel.id == id)


def _assert_owned_as_planned(machine: Machine, everywhere: Everywhere) -> None:
    script = "cat /proc/popcorn/self; echo online: $(nproc); grep MemTotal /proc/meminfo"
    for id, text in everywhere(script).items():
        partition = machine.plan.partition(id)
        told = dict(re.findall(r"^(\w+): +(.*)$", text, re.MULTILINE))
        assert cpulist.parse(told["cpus"]) == partition.cpus, f"kernel {id}"
        assert int(told["online"]) == len(partition.cpus), f"kernel {id}"
        total = int(told["MemTotal"].split()[0]) << 10
        assert (1 - _OWN_SHARE) * partition.memory_bytes - 48 * MIB < total < partition.memory_bytes, f"kernel {id}"


def _assert_all_reach_all(machine: Machine, everywhere: Everywhere) -> None:
    ids = [partition.id for partition in machine.plan.partitions]
    script = " && ".join(f"ping -c 1 -W 20 -q kernel-{id} >/dev/null" for id in ids)
    everywhere(script)
    pings = " && ".join(f'{{ [ "$self" = {id} ] || popcorn-msg ping {id} -n 3 >/dev/null; }}' for id in ids)
    everywhere(f"self=$(sed -n 's/^id: //p' /proc/popcorn/self); {pings}")


def test_kernels_that_stay_go_on_with_what_they_do(machine: Machine, everywhere: Everywhere) -> None:
    _cut(machine, _FEW)
    _assert_owned_as_planned(machine, everywhere)
    # Pages in memory that leaves are moved with what they hold.
    held = machine.exec(
        0, ["sh", "-c", "dd if=/dev/urandom of=/dev/shm/held bs=1M count=48 2>&1; md5sum /dev/shm/held"]
    )
    digest = held.stdout_text.split()[-2]
    # From its first moment on: the session may end before it has begun.
    work = "trap '' HUP; sh -c 'while npb is S; do :; done; echo $? >/tmp/failed' </dev/null >/tmp/work 2>&1 & echo $!"
    pids = {id: machine.exec(id, ["sh", "-c", work]).stdout_text.strip() for id in (4, 5)}
    before = {id: _kernel(machine, id) for id in (0, 4, 5)}

    _cut(machine, _MORE)
    assert machine.record.kernels == (0, 2, 4, 5)
    _assert_owned_as_planned(machine, everywhere)
    _assert_all_reach_all(machine, everywhere)
    assert machine.exec(0, ["md5sum", "/dev/shm/held"]).stdout_text.split()[0] == digest
    assert machine.exec(0, ["rm", "/dev/shm/held"]).status == 0
    for id, kernel in before.items():
        after = _kernel(machine, id)
        assert after.generation == kernel.generation
        assert after.uptime_s is not None
        assert kernel.uptime_s is not None
        assert after.uptime_s > kernel.uptime_s
    for id, pid in pids.items():
        works = machine.exec(id, ["sh", "-c", f"tail /tmp/work; [ ! -e /tmp/failed ] && kill {pid}"])
        assert works.status == 0, works
        machine.exec(id, ["killall", "npb"])


def test_a_kernel_that_ends_leaves_what_it_had_to_the_primary(machine: Machine, everywhere: Everywhere) -> None:
    plan = _cut(machine, _MORE)
    given = plan.partition(4)

    def primary_has() -> tuple[bool, bool]:
        has = live_kernels(machine.region())[0]
        return set(given.cpus) <= set(has.cpus), not subtract(given.memory, has.memory)

    assert primary_has() == (False, False)
    with started("stop", "--name", machine.name, "4", stderr=PIPE) as stop:
        # Somebody else is at it.
        with changing(machine, "repartition"):
            assert stop.stderr is not None
            assert any("waiting for `popcorn repartition`" in line for line in stop.stderr)
            assert _kernel(machine, 4).state == "running"
        assert stop.wait(120) == 0
    assert primary_has() == (True, True)
    online, total = machine.exec(0, ["sh", "-c", "nproc; grep MemTotal /proc/meminfo"]).stdout_text.splitlines()
    assert int(online) == len(plan.primary.cpus) + 1
    assert int(total.split()[1]) << 10 > plan.primary.memory_bytes
    assert popcorn("start", "--name", machine.name, "4").returncode == 0
    assert primary_has() == (False, False)
    _assert_owned_as_planned(machine, everywhere)


@contextmanager
def _pinned(machine: Machine) -> Iterator[None]:
    """Movable pages of the primary that do not go elsewhere."""
    machine.primary.put(suite_program("pin").read_bytes(), "/tmp/pin", 0o755)
    work = "trap '' HUP; /tmp/pin </dev/null >/tmp/pinned 2>&1 & echo $!; until [ -s /tmp/pinned ]; do sleep 0.05; done"
    pid = machine.exec(0, ["sh", "-c", work]).stdout_text.strip()
    try:
        assert machine.exec(0, ["cat", "/tmp/pinned"]).stdout_text == "pinned\n"
        yield
    finally:
        machine.exec(0, ["kill", pid])


def test_memory_that_cannot_leave_is_named_and_all_is_as_before(
    machine: Machine, everywhere: Everywhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _cut(machine, _MORE)
    before = live_kernels(machine.region())
    lives = {kernel.id: kernel.generation for kernel in machine.ps()}
    monkeypatch.setattr(owning, "_PAGES_S", 2)
    with (
        _pinned(machine),
        pytest.raises(GuestError, match=r"kernel 0 could not .*remove .* 2 s; 0x[0-9a-f]+\+0x8000000 stays") as told,
    ):
        repartition(machine, next_plan(plan, "per-core"))
    assert "again what it had" in (told.value.hint or "")
    machine.refresh()
    assert machine.plan == plan
    assert live_kernels(machine.region()) == before
    assert {kernel.id: kernel.generation for kernel in machine.ps()} == lives
    _assert_owned_as_planned(machine, everywhere)


def test_what_another_kernel_has_cannot_be_taken(machine: Machine) -> None:
    plan = _cut(machine, _MORE)
    theirs = plan.partition(4).memory[0]

    def primary(script: str) -> str:
        done = machine.exec(0, ["sh", "-c", script])
        assert done.status != 0, done.stdout_text
        return done.stderr_text

    assert "busy" in primary("echo 1 >/sys/devices/system/cpu/cpu4/online")
    assert "in use" in primary(f"echo add {theirs.start:#x}+0x8000000 >/proc/popcorn/memory")
    assert "Invalid" in primary(f"echo remove {theirs.start:#x}+0x1000 >/proc/popcorn/memory")
    assert "No such" in primary(f"echo remove {theirs.start:#x}+0x8000000 >/proc/popcorn/memory")
    assert "upported" in primary("echo remove 0x8000000+0x8000000 >/proc/popcorn/memory")
    assert _kernel(machine, 4).state == "running"
    modes = machine.exec(0, ["stat", "-c", "%a", "/proc/popcorn/memory", "/sys/devices/system/cpu/cpu1/online"])
    assert modes.stdout_text.split() == ["600", "644"]


def test_memory_that_the_primary_needs_is_named_and_nothing_is_moved(machine: Machine) -> None:
    _cut(machine, _MORE)
    filled = machine.exec(0, ["dd", "if=/dev/zero", "of=/dev/shm/used", "bs=1M", "count=600"])
    assert filled.status == 0
    assert re.search(r"the primary uses [67]\d\d", _refused(machine, "per-core"))
    machine.exec(0, ["rm", "/dev/shm/used"])


def test_all_is_given_back(machine: Machine, everywhere: Everywhere) -> None:
    _cut(machine, "hotplug")
    assert machine.record.kernels == (0,)
    _assert_owned_as_planned(machine, everywhere)
    # Threads on all CPUs, whose answer is checked.
    assert machine.exec(0, ["npb", "cg", "S"], timeout_s=120).status == 0


@pytest.mark.slow
def test_a_kernel_that_hangs_has_to_be_killed_first(machine: Machine) -> None:
    _cut(machine, _MORE)
    with pytest.raises(TimedOutError):
        machine.exec(4, ["sh", "-c", "echo loop >/proc/popcorn/fault"], timeout_s=5, via="vty")
    deadline = time.monotonic() + _HUNG_WITHIN_S
    while _kernel(machine, 4).health != "hung":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    told = _refused(machine, "hotplug")
    assert "kernel 4" in told
    assert f"popcorn kill 4 --name {machine.name}" in told
    assert popcorn("kill", "--name", machine.name, "4").returncode == 0
    _cut(machine, "hotplug")


@pytest.mark.slow
def test_a_command_that_is_killed_is_given_once_more(machine: Machine, everywhere: Everywhere) -> None:
    draw = random.Random(5)
    for policy in ("per-core", "0-3;4,6;5,7"):
        with started("repartition", "--name", machine.name, "--policy", policy) as command:
            time.sleep(draw.uniform(1.0, 4.0))
            command.send_signal(signal.SIGKILL)
        _cut(machine, policy)
        _assert_owned_as_planned(machine, everywhere)
    _assert_all_reach_all(machine, everywhere)


@pytest.mark.slow
def test_nothing_is_lost_from_one_time_to_the_next(machine: Machine, everywhere: Everywhere) -> None:
    kept = []
    for _ in range(_TIMES):
        _cut(machine, "per-core")
        _assert_owned_as_planned(machine, everywhere)
        _assert_all_reach_all(machine, everywhere)
        _cut(machine, "hotplug")
        _assert_owned_as_planned(machine, everywhere)
        script = "sync; echo 3 >/proc/sys/vm/drop_caches; cat /proc/meminfo"
        lines = machine.exec(0, ["sh", "-c", script]).stdout_text.splitlines()
        told = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
        kept.append((told["MemTotal"], told["MemAvailable"]))
    # The first time makes what stays.
    totals, available = zip(*kept[1:], strict=True)
    assert len(set(totals)) == 1
    assert available[0] - available[-1] < _LEAK_KIB, available
