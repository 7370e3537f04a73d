# SPDX-License-Identifier: Apache-2.0
"""What the kernels of a machine own, by their own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popcorn.errors import GuestError
from popcorn.machine.layout import Region, Slot
from popcorn.plan.model import Window
from popcorn.plan.moves import Owned, inside
from popcorn.plan.windows import subtract

if TYPE_CHECKING:
    from popcorn.machine.machine import Machine

_LIVE = ("started", "early", "running")


def live_kernels(region: Region) -> dict[int, Owned]:
    """The CPUs and the memory of each kernel that lives, by id."""
    return {slot.id: _owned(slot) for slot in region.slots() if slot.state in _LIVE}


def _owned(slot: Slot) -> Owned:
    # It does not say of which node.
    memory = tuple(Window(start=one.start, size=one.size, node=0) for one in slot.ranges if one.size)
    return Owned(slot.cpus, memory)


def require_memory(machine: Machine) -> None:
    """See that a primary that takes memory when it has booted got all of it.

    Raises:
        GuestError: naming what it did not get.
    """
    plan = machine.plan
    if plan.hotplug is None:
        return
    has = inside(plan, _owned(machine.region().slot(plan.primary.id)).memory)
    if lacking := subtract(plan.primary.memory, has):
        raise GuestError(
            f"the primary did not get the memory {', '.join(str(window) for window in lacking)}",
            hint=f"what it said: `popcorn log {plan.primary.id} --name {machine.name}`",
        )
