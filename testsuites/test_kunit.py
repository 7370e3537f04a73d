# SPDX-License-Identifier: Apache-2.0
"""The kernel's own tests, in a kernel with lockdep, KASAN and UBSAN, on the primary and on a secondary."""

from __future__ import annotations

import os
import re

import pytest
from ktap import results

from popcorn.machine.machine import Machine

pytestmark = [
    pytest.mark.machine("small", policy="0-3;4-7", flavour="debug"),
    pytest.mark.skipif(
        not os.environ.get("POPCORN_DEBUG"),
        reason="building and booting the debug kernel takes many minutes; POPCORN_DEBUG=1 runs it",
    ),
]
_COMPLAINT = re.compile(r"BUG:|WARNING:|UBSAN:|possible circular locking|suspicious RCU usage|Oops")


@pytest.mark.parametrize("id", [0, 4])
def test_kunit_passes(id: int, machine: Machine) -> None:
    found = results(entry.text for entry in machine.log(id))
    suites = [result for result in found if result.depth == 0 and "popcorn" in result.name]
    assert suites, f"kernel {id} printed no results of KUnit suites named popcorn"
    assert [result.name for result in found if not result.passed] == []


@pytest.mark.parametrize("id", [0, 4])
def test_the_debug_kernel_complains_of_nothing(id: int, machine: Machine) -> None:
    assert [entry.text for entry in machine.log(id) if _COMPLAINT.search(entry.text)] == []
