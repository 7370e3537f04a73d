# SPDX-License-Identifier: Apache-2.0
"""Whether the host has a CPU to spare for a machine.

An emulated CPU takes a lock of every other one for each page of code that is new to it (QEMU's tlb_reset_dirty()).
When more of them want to run than the host has CPUs, one that holds such a lock has often lost its CPU, and all others
spin: 48 kernels that had just been restored took 25 to 30 s to answer when all were asked at once.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

from popcorn.machine.progress import CpuTimes


def _host_cpus() -> int:
    cpus = len(os.sched_getaffinity(0))
    # In a container its share, in µs of a period (Documentation/admin-guide/cgroup-v2.rst).
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cpus = min(cpus, math.ceil(int(quota) / int(period)))
    return max(1, cpus)


HOST_CPUS = _host_cpus()
"""That this process may use."""


class Room:
    """Looks every now and then at how much of the host a machine's CPUs take."""

    def __init__(self, times: CpuTimes, cpus: Iterable[int], *, host_cpus: int = HOST_CPUS) -> None:
        """
        Args:
            cpus: the machine's, by their global numbers.
        """
        self._times, self._cpus, self._host_cpus = times, tuple(cpus), host_cpus
        self._looked_s, self._taken_s = time.monotonic(), self._taken()

    def spare(self) -> bool:
        """Whether they ran, or waited to, for less than the host's CPUs had since the last look.

        There is room on a host that does not tell (no CONFIG_SCHED_INFO).
        """
        now_s, taken_s = time.monotonic(), self._taken()
        spare = taken_s - self._taken_s < (now_s - self._looked_s) * self._host_cpus
        self._looked_s, self._taken_s = now_s, taken_s
        return spare

    def _taken(self) -> float:
        return sum(ran_s + waited_s for ran_s, waited_s in self._times.read(self._cpus).values())
