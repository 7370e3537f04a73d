# SPDX-License-Identifier: Apache-2.0
"""Which tests run one after the other on one of pytest-xdist's workers, and in which order these groups begin.

A worker has one machine at a time, so tests that need the same one are a group. A machine that many modules need
would leave nothing for other workers: there each module is a group, and every worker that gets one boots the machine.

Groups are dealt out in the order here, and one that is long and begins last keeps a single worker busy. So the
machine with the most CPUs is first, then come the others by the number of their tests, and at last tests that boot
machines of their own, each of them by itself. Of these a module with many has the shortest: it is the end, as a worker
is given the next tests while it still runs others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# A machine that so many modules need is booted for them once.
_FEW_MODULES = 2
# What QEMU takes for the paper's 48 kernels, which one worker has, and for the eight of the small machine; measured.
_LARGE_BYTES = 5 << 30
_SMALL_BYTES = 3 << 29


@dataclass(frozen=True)
class Turn:
    """Where a test is, and what it runs on."""

    module: str
    machine: str | None
    """The same text for tests that share one; None for a test that boots its own."""
    nr_cpus: int = 0
    """Of that machine."""
    skipped: bool = False
    """It takes no time."""


def groups(tests: Sequence[Turn]) -> list[str | None]:
    """The group of each test; None for one that is by itself."""
    modules = Counter(machine for _, machine in {(test.module, test.machine) for test in tests if not test.skipped})

    def group(test: Turn) -> str | None:
        if test.machine is None or modules[test.machine] <= _FEW_MODULES:
            return test.machine
        return f"{test.machine} {test.module}"

    return [group(test) for test in tests]


def order(tests: Sequence[Turn]) -> list[int]:
    """The indices of the tests in the order in which they begin."""
    on_machine = Counter(test.machine for test in tests if not test.skipped)
    in_module = Counter((test.machine, test.module) for test in tests if not test.skipped)

    def rank(index: int) -> tuple[bool, int, int, str, int, str]:
        test = tests[index]
        nr_tests = in_module[test.machine, test.module]
        if test.machine is None:
            return (True, 0, 0, "", nr_tests, test.module)
        return (False, -test.nr_cpus, -on_machine[test.machine], test.machine, -nr_tests, test.module)

    return sorted(range(len(tests)), key=rank)


def workers(nr_cpus: int, free_bytes: int) -> int:
    """How many machines a host with these CPUs and this memory bears; at least one."""
    return max(1, min(nr_cpus, 1 + (free_bytes - _LARGE_BYTES) // _SMALL_BYTES))
