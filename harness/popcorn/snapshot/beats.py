# SPDX-License-Identifier: Apache-2.0
"""Whether all kernels go on after the machine stood still."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from popcorn import cpulist
from popcorn.errors import GuestError
from popcorn.machine.arrival import DEFAULT_STALL_S, StallJudge
from popcorn.machine.machine import Machine

_LOOK_S = 0.02


def beating(machine: Machine, health: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
    """The kernels whose hearts beat.

    Args:
        health: what the supervisor makes of them (`Progress.health`): one that hangs is saved as it is.
    """
    return tuple(
        slot.id
        for slot in machine.region().slots()
        if slot.state == "running" and health.get(str(slot.id), {}).get("health") not in ("hung", "silent")
    )


def beats_of(machine: Machine, ids: Iterable[int]) -> dict[int, int]:
    """The heartbeats of kernels so far."""
    region = machine.region()
    return {id: region.slot(id).heartbeat for id in ids}


def await_beats(machine: Machine, before: Mapping[int, int], stall_s: float = DEFAULT_STALL_S) -> None:
    """Wait until the heart of each kernel beat again: it lives, and has set its clock.

    Args:
        before: what `beats_of` told, once the machine could go on and the time was set.
        stall_s: give up when none of those that are waited for moved for so long.

    Raises:
        GuestError: one does not.
        MachineLostError: QEMU ended.
    """
    region = machine.region()
    judge = StallJudge(stall_s, time.monotonic())
    while True:
        slots = [region.slot(id) for id in before]
        pending = [slot for slot in slots if slot.heartbeat == before[slot.id] and not slot.ended]
        if not pending:
            return
        if not machine.alive():
            raise machine.lost()
        if judge.stalled([(slot.id, slot.log_head) for slot in pending], None, time.monotonic()):
            raise GuestError(
                f"kernels {cpulist.format(slot.id for slot in pending)} do not go on after the machine stood still: "
                f"no heartbeat for {stall_s:g} s",
                hint=f"what was recorded is in {machine.run_dir}",
            )
        time.sleep(_LOOK_S)
