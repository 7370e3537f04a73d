# SPDX-License-Identifier: Apache-2.0
"""What suites on the debug kernel have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from popcorn.machine.machine import Machine
from popcorn.testing.switches import is_on

needs_debug = pytest.mark.skipif(
    not is_on("POPCORN_DEBUG"),
    reason="building and booting the debug kernel takes many minutes; POPCORN_DEBUG=1 runs it",
)
# Not what a loaded host alone can cause: stalls and hung tasks.
_REPORT = re.compile(
    r"\b(BUG|WARNING|UBSAN|KASAN|KFENCE|Oops|ODEBUG)\b|general protection fault|"
    r"possible (recursive|circular|irq|unsafe)|inconsistent lock state|suspicious RCU usage|Kernel panic"
)


def reports(machine: Machine, kernels: Sequence[int]) -> dict[str | int, list[str]]:
    """What lockdep, KASAN and their like said on the consoles, by kernel; nothing if they said nothing."""
    return {
        name: lines
        for name in ("serial", *kernels)
        if (lines := [entry.text for entry in machine.log(name) if _REPORT.search(entry.text)])
    }
