# SPDX-License-Identifier: Apache-2.0
"""A fault stays in the kernel where it happens: others finish correct work, the dead one is told of and comes back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from command import popcorn
from faults import FAULTS, LAST_WORDS, Fault, assert_back, await_fault, diagnosed, inflict, restart
from messages import answers
from scribble import Scribbler, Target
from workload import Shifts, Work

from popcorn.diagnose.dump import target_of
from popcorn.diagnose.layout import START_KERNEL_MAP
from popcorn.machine.machine import Machine
from popcorn.testing import Kernel
from popcorn.testing.switches import slow

pytestmark = pytest.mark.machine("small", policy="per-core", scratch=True)

_VICTIM = 3
_DEADLINE_S = 90.0


@pytest.fixture(scope="module")
def shifts() -> Iterator[Shifts]:
    with Shifts() as begun:
        yield begun


@pytest.fixture
def work(shifts: Shifts, machine: Machine, kernels: list[int]) -> Work:
    """What all but the victim do, from the first test to the last: that much is less to emulate."""
    return shifts.work(machine, [id for id in kernels if id != _VICTIM])


def _hash_tables(machine: Machine, id: int) -> list[Target]:
    """Where a kernel has its tables of directory entries and inodes, as many bytes as its command line says."""
    target = target_of(machine.run_dir, machine.plan, id, machine.region())
    layout = target.layout(machine.memory)
    words = dict(word.partition("=")[::2] for word in machine.plan.partition(id).cmdline.split())
    found = []
    for table, entries in (("dentry_hashtable", "dhash_entries"), ("inode_hashtable", "ihash_entries")):
        pointer = target.symbols[table] - START_KERNEL_MAP + layout.phys_base
        address = int.from_bytes(machine.memory.read(pointer, 8), "little")
        found.append(Target(address - layout.direct_map, 8 * int(words[entries])))
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_stays_where_it_happens(
    fault: Fault, work: Work, machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    inflict(kernel(_VICTIM), fault.command)
    await_fault(kernel(_VICTIM), fault)
    work.goes_on()
    found = diagnosed(kernel(_VICTIM))
    assert re.match(fault.title, found["title"]), found
    assert any(LAST_WORDS in entry.text for entry in machine.log(_VICTIM))
    restart(kernel(_VICTIM))
    assert_back(kernel(_VICTIM), kernel(5))
    work.goes_on(rounds=1)


_FLOODS = {
    "messages": "while :; do popcorn-msg stream 5 -n 1000 -l 60000; done",
    "multicast": "popcorn-msg group join $group; while :; do popcorn-msg fanout $group -n 100 -l 20; done",
    "terminal": "while :; do cat /proc/interrupts >/dev/vty5; done",
    "network": "while :; do busybox ping -q -c 200 -i 0 -s 1400 10.80.0.6; done",
}
_KILLS = 10 if slow() else 2


@pytest.mark.parametrize("flood", _FLOODS)
def test_a_kernel_that_is_killed_while_it_writes_to_others_takes_nothing_with_it(
    flood: str, work: Work, machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    group = answers(kernel(2).shell("popcorn-msg group open"))[0]["group"]
    kernel(5).shell(f"popcorn-msg group join {group}; (cat /dev/vty{_VICTIM} >/dev/null) </dev/null >/dev/null 2>&1 &")
    for number in range(_KILLS):
        kernel(_VICTIM).shell(f"group={group}; ({_FLOODS[flood]}) </dev/null >/dev/null 2>&1 &")
        # At another place of what it does each time.
        time.sleep(0.3 + 0.037 * number)
        done = popcorn("restart", "--name", machine.name, "--force", str(_VICTIM))
        assert done.returncode == 0, done.stderr
        assert_back(kernel(_VICTIM), kernel(5))
    work.goes_on()
    # A multicast group outlives its member: the others have what is sent to it.
    (told,) = answers(kernel(2).shell(f"popcorn-msg fanout {group} -n 10 -l 20"))
    assert told["delivered"] == 10
    kernel(2).shell(f"popcorn-msg group close {group}")
    kernel(5).run(["busybox", "killall", "cat"])


def test_wild_writes_into_its_own_memory_harm_the_writer_alone(
    work: Work, machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    inflict(kernel(_VICTIM), "while :; do ls /proc /sys /dev /nowhere; done")
    with Scribbler(machine, seed=7) as scribbler:
        # Whatever it looks up, it follows a wild pointer.
        for target in _hash_tables(machine, _VICTIM):
            scribbler.scribble(target, target.size // 2)
    deadline = time.monotonic() + _DEADLINE_S
    while diagnosed(kernel(_VICTIM))["in_order"]:
        assert time.monotonic() < deadline, "a kernel with wild pointers goes on"
        time.sleep(0.5)
    work.goes_on()
    restart(kernel(_VICTIM))
    assert_back(kernel(_VICTIM), kernel(5))
    work.goes_on(rounds=1)
