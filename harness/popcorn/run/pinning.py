# SPDX-License-Identifier: Apache-2.0
"""Which host CPU a virtual CPU runs on.

Left alone, the host's scheduler likes to run a CPU that gets an interrupt in the place of the one that sent it,
and whether it does so changes from run to run. On the machine that is emulated each CPU is one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from popcorn.machine.machine import Machine


def pin(machine: Machine, places: Mapping[int, int]) -> None:
    """Keep virtual CPUs apart until the machine ends.

    Args:
        places: global CPU number to place; equal places are the same host CPU, others differ if the host has so many.

    Raises:
        MachineLostError: QEMU does not answer.
    """
    with machine.qmp() as qmp:
        threads = {int(cpu["cpu-index"]): int(cpu["thread-id"]) for cpu in qmp.execute("query-cpus-fast")}
    allowed = sorted(os.sched_getaffinity(0))
    for cpu, place in places.items():
        os.sched_setaffinity(threads[cpu], {allowed[place % len(allowed)]})
