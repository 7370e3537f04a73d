# SPDX-License-Identifier: Apache-2.0
"""What the kernels of a machine own, by their own words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from popcorn.errors import GuestError
from popcorn.machine.layout import Region, Slot
from popcorn.plan.model import Window
from popcorn.plan.moves import Owned, inside
from popcorn.plan.windows import subtract

if TYPE_CHECKING:
    from popcorn.machine.machine import Machine

# Who is being stopped, or has a state that makes no sense, may use what it has; so kernels see it, too.
_NOT_LIVE = ("none", "loaded", "parked", "dead")
# It takes no time, unless the host does not run its CPU.
_TOLD_S = 2.0
_LOOK_S = 0.005


def live_kernels(region: Region) -> dict[int, Owned]:
    """The CPUs and the memory of each kernel that lives, by id.

    Raises:
        GuestError: one does not come to an end with telling its memory.
    """
    return {slot.id: _owned(_told(region, slot)) for slot in region.slots() if slot.state not in _NOT_LIVE}


def _told(region: Region, slot: Slot) -> Slot:
    """The slot when nobody was writing what memory it has."""
    deadline = time.monotonic() + _TOLD_S
    while True:
        again = region.slot(slot.id)
        if slot.range_seq % 2 == 0 and slot.range_seq == again.range_seq:
            return slot
        if time.monotonic() > deadline:
            raise GuestError(
                f"kernel {slot.id} does not tell what memory it has: it stands still in the middle of that, or its "
                "slot was overwritten",
                hint=f"`popcorn diagnose` tells how it is, `popcorn kill {slot.id}` ends it",
            )
        slot = again
        time.sleep(_LOOK_S)


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
