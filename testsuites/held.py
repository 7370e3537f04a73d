# SPDX-License-Identifier: Apache-2.0
"""One CPU of a machine held still while all others run: what happens around a kernel that does nothing for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from popcorn.diagnose.gdb import stub
from popcorn.machine.debugstub import Stub
from popcorn.machine.machine import Machine


@contextmanager
def held(machine: Machine, cpu: int) -> Iterator[None]:
    """Hold a CPU, by its global number, until the block ends; wherever it is, it goes on from there."""
    with stub(machine), Stub(machine.record.directory) as connected:
        connected.run(other for other in range(machine.plan.machine.nr_cpus) if other != cpu)
        try:
            yield
        finally:
            connected.halt()
