# SPDX-License-Identifier: Apache-2.0
"""The paper's machine: as many kernels come to grief at the same time as there are faults; the others do not notice."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from command import popcorn
from faults import FAULTS, assert_back, await_fault, diagnosed, inflict
from workload import working

from popcorn import cpulist
from popcorn.machine.machine import Machine
from popcorn.testing import Kernel

_FIRST = 10
_RESTART_S = 600.0


@pytest.mark.slow
@pytest.mark.machine("paper", policy="per-core", scratch=True)
def test_each_fault_at_once_on_forty_eight_kernels(
    machine: Machine, kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    # Each at a kernel of its own; between them are some that work.
    victims = dict(zip(range(_FIRST, len(kernels), 2), FAULTS, strict=False))
    assert len(victims) == len(FAULTS)
    with working(machine, [id for id in kernels if id not in victims]) as work:
        for id, fault in victims.items():
            inflict(kernel(id), fault.command)
        for id, fault in victims.items():
            await_fault(kernel(id), fault)
        work.goes_on()
        for id, fault in victims.items():
            found = diagnosed(kernel(id))
            assert re.match(fault.title, found["title"]), found
        # Those that hang have not let go of the memory of those that died after: all are ended before one is started.
        done = popcorn("restart", "--name", machine.name, "--force", cpulist.format(victims), timeout_s=_RESTART_S)
        assert done.returncode == 0, done.stderr
        for id in victims:
            assert_back(kernel(id), kernel(id + 1))
