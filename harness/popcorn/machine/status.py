# SPDX-License-Identifier: Apache-2.0
"""What `popcorn ps` tells of each kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popcorn.machine.layout import NotFormattedError, Region, Slot, unknown_slot
from popcorn.machine.memory import GuestMemory
from popcorn.plan.model import Partition, Plan

# struct page: 64 bytes for each 4096. A kernel with more memory has a larger array, whatever else it does.
PAGE_ARRAY_SHARE = 64


@dataclass(frozen=True)
class KernelStatus:
    """One kernel. Sizes in bytes, times in seconds; None where nothing is known (yet)."""

    id: int
    cpus: tuple[int, ...]
    online: int
    state: str
    stage: str
    generation: int
    heartbeat: int
    heartbeat_age_s: float | None
    uptime_s: float | None
    release: str
    reason: str
    memory_bytes: int
    """Windows that the plan gives it."""
    managed_bytes: int | None
    free_bytes: int | None
    resident_bytes: int | None
    """What the host has given pages to."""
    beyond_page_array_bytes: int | None
    """The same without the kernel's page array: what this kernel costs the host, whatever memory it owns."""
    cpu_s: float
    health: str | None
    """``ok``, ``slow``, ``hung`` or ``silent`` (see `progress`); None for one that does not run."""


def kernel_statuses(
    plan: Plan,
    region: Region | None,
    memory: GuestMemory | None,
    times: Mapping[str, Any],
    now: float,
    tsc_khz: int | None,
    health: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[KernelStatus]:
    """The status of each planned kernel, and of any other that was started beyond the plan.

    Args:
        region: the shared region, formatted or not.
        memory: the machine's memory, or None when only the saved region is left.
        tsc_khz: rate of the machine's time stamp counter, if known.
        times: when the supervisor saw what change (`Recorder.times`), at the same clock as ``now``.
        health: what it makes of that (`Progress.health`).
    """
    slots: dict[int, Slot] = {}
    if region is not None:
        try:
            slots = {slot.id: slot for slot in region.slots()}
        except NotFormattedError:
            slots = {}
    planned = {partition.id: partition for partition in plan.partitions}
    extra = [id for id, slot in slots.items() if slot.generation and id not in planned and not _replaced(slot, plan)]
    return [
        _status(
            slots.get(id, unknown_slot(id)),
            planned.get(id),
            memory,
            _age(times.get(str(id)), now),
            tsc_khz,
            (health or {}).get(str(id), {}).get("health"),
        )
        for id in sorted([*planned, *extra])
    ]


def _replaced(slot: Slot, plan: Plan) -> bool:
    """Whether a kernel beside the plan ended because the machine was cut anew, or others have its CPUs by now."""
    others = {cpu for partition in plan.partitions for cpu in partition.cpus}
    return slot.state == "parked" or (slot.ended and bool(others & set(slot.cpus)))


def _age(seen: Mapping[str, float] | None, now: float) -> float | None:
    at = seen.get("heartbeat_at", 0.0) if seen else 0.0
    return max(0.0, now - at) if at else None


def _status(
    slot: Slot,
    partition: Partition | None,
    memory: GuestMemory | None,
    age_s: float | None,
    tsc_khz: int | None,
    health: str | None,
) -> KernelStatus:
    state = "planned" if slot.state == "none" and partition is not None else slot.state
    windows = (
        [(window.start, window.size) for window in partition.memory]
        if partition is not None
        else [(window.start, window.size) for window in slot.ranges]
    )
    size = sum(size for _, size in windows)
    resident = _resident_bytes(memory, windows)
    return KernelStatus(
        id=slot.id,
        cpus=partition.cpus if partition is not None else slot.cpus,
        online=slot.nr_online,
        state=state,
        stage=slot.stage,
        generation=slot.generation,
        heartbeat=slot.heartbeat,
        heartbeat_age_s=None if age_s is None else round(age_s, 2),
        uptime_s=_uptime_s(slot, age_s, tsc_khz),
        release=slot.release,
        reason=slot.reason,
        memory_bytes=size,
        managed_bytes=slot.mem_total or None,
        free_bytes=slot.mem_free if slot.mem_total else None,
        resident_bytes=resident,
        beyond_page_array_bytes=None if resident is None else resident - size // PAGE_ARRAY_SHARE,
        cpu_s=round(slot.cpu_ns / 1e9, 3),
        health=health,
    )


def _uptime_s(slot: Slot, age_s: float | None, tsc_khz: int | None) -> float | None:
    until = slot.ended_tsc or slot.heartbeat_tsc
    if not tsc_khz or not slot.early_tsc or until < slot.early_tsc:
        return None
    since_beat = 0.0 if slot.ended_tsc or age_s is None else age_s
    return round((until - slot.early_tsc) / (tsc_khz * 1000) + since_beat, 2)


def _resident_bytes(memory: GuestMemory | None, windows: list[tuple[int, int]]) -> int | None:
    if memory is None:
        return None
    from popcorn.errors import UserError

    try:
        return sum(memory.resident_bytes(start, size) for start, size in windows)
    except UserError:
        return None
