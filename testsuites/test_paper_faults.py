# SPDX-License-Identifier: Apache-2.0
"""The paper's machine: as many kernels come to grief at the same time as there are faults; the others do not notice."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from faults import FAULTS, assert_back, await_fault, diagnosed, inflict, restart
from workload import working

from popcorn.machine.machine import Machine
from popcorn.testing import Kernel

_FIRST = 10


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
        for id in victims:
            restart(kernel(id))
            assert_back(kernel(id), kernel(id + 1))
