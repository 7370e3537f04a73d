# SPDX-License-Identifier: Apache-2.0
"""The debug kernel: its own tests pass, and lockdep, KASAN, UBSAN and their like report nothing, in every kernel."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from debugging import needs_debug, reports
from faults import inflict

from popcorn.machine.machine import Machine
from popcorn.testing import Kernel
from popcorn.testing.singles import Ktap

pytestmark = needs_debug
_PER_NODE = pytest.mark.machine("small", policy="per-node", flavour="debug", scratch=True)
_PER_CORE = pytest.mark.machine("small", policy="per-core", flavour="debug", scratch=True)
_LAYOUTS = [pytest.param(None, marks=_PER_NODE, id="per-node"), pytest.param(None, marks=_PER_CORE, id="per-core")]
_DEADLINE_S = 300.0
_EXERCISE = (
    "cat /proc/popcorn/kernels /proc/popcorn/self /proc/popcorn/log/* >/dev/null; OMP_WAIT_POLICY=passive npb cg S"
)


@pytest.mark.parametrize("_layout", _LAYOUTS)
def test_kunit_passes_in_every_kernel(_layout: None, machine: Machine, kernels: list[int], ktap: Ktap) -> None:
    for id in kernels:
        found = ktap((entry.text for entry in machine.log(id)), f"kernel-{id}")
        suites = [result for result in found if "popcorn" in result.name and result.children]
        assert suites, f"kernel {id} printed no results of KUnit suites named popcorn"


@pytest.mark.parametrize("_layout", _LAYOUTS)
def test_no_console_has_a_report(
    _layout: None, machine: Machine, kernels: list[int], everywhere: Callable[[str], dict[int, str]]
) -> None:
    everywhere(_EXERCISE)
    _restart(machine, kernels[-1])
    assert reports(machine, kernels) == {}


def _restart(machine: Machine, id: int) -> None:
    """End a secondary and start it again: claims, INIT, and the way through the trampoline."""
    inflict(Kernel(machine, id), "busybox poweroff -f")
    _await(machine, id, "parked")
    done = machine.exec(0, ["popcorn-launch", str(id)], timeout_s=_DEADLINE_S)
    assert done.status == 0, done.stdout_text + done.stderr_text
    _await(machine, id, "running")


def _await(machine: Machine, id: int, state: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while (status := next(kernel for kernel in machine.ps() if kernel.id == id)).state != state:
        assert time.monotonic() < deadline, f"kernel {id} is {status.state} at {status.stage}, expected {state}"
        time.sleep(0.5)
