# SPDX-License-Identifier: Apache-2.0
"""Whether kernels have room in their partitions, and a machine on this host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from popcorn import progress
from popcorn.build.disk import need_free_space
from popcorn.config.sizes import MIB, format_size, kernel_size
from popcorn.dirs import runs_dir
from popcorn.errors import UserError
from popcorn.plan.model import Plan


@dataclass(frozen=True)
class Appetite:
    """Memory that a kernel of one flavour takes, in bytes; measured."""

    idle_bytes: int
    """What an idle one touches, however much it has."""
    shadow_share: int
    """And one byte for so many that it has; 0 for none."""
    least_bytes: int
    """With less a secondary does not get to its userspace."""


# 64 bytes of struct page for each 4096; KASAN keeps a byte for each 8, and touches them all.
_PAGE_ARRAY_SHARE = 64
# Consoles, events, results and what is touched of the shared region: 48 kernels leave a few MiB.
_RUN_BYTES = 32 * MIB
_APPETITES = {
    "default": Appetite(idle_bytes=32 * MIB, shadow_share=0, least_bytes=0),
    "debug": Appetite(idle_bytes=96 * MIB, shadow_share=8, least_bytes=128 * MIB),
}
_QEMU_BYTES = 1024 * MIB


def _appetite(flavour: str) -> Appetite:
    # Who builds the kernel refuses a flavour that does not exist.
    return _APPETITES.get(flavour, _APPETITES["default"])


def require_room(plan: Plan, flavour: str) -> None:
    """Refuse a plan whose kernels are too small for a flavour.

    Raises:
        UserError: naming the first one.
    """
    least = _appetite(flavour).least_bytes
    for partition in plan.secondaries:
        if partition.memory_bytes < least:
            raise UserError(
                f"kernel {partition.id} has {format_size(partition.memory_bytes)}, "
                f"and a kernel of flavour {flavour} needs {format_size(least)}",
                hint=f"give it more with --size {partition.id}={kernel_size(least)}, or plan fewer kernels",
            )


def expected_bytes(plan: Plan, flavour: str) -> int:
    """About how much of the host's memory a machine takes while its kernels are idle."""
    appetite = _appetite(flavour)
    memory = sum(partition.memory_bytes for partition in plan.partitions)
    shadow = memory // appetite.shadow_share if appetite.shadow_share else 0
    return _QEMU_BYTES + len(plan.partitions) * appetite.idle_bytes + memory // _PAGE_ARRAY_SHARE + shadow


def warn_of_scarce_memory(plan: Plan, flavour: str = "default") -> None:
    """Tell the user when the host has less memory free than the idle machine will take."""
    free = psutil.virtual_memory().available
    expected = expected_bytes(plan, flavour)
    if expected > free:
        progress.note(
            f"warning: this machine will take about {expected // MIB} MiB of memory when idle, "
            f"and the host has {free // MIB} MiB available; give its kernels less (--size), or plan fewer"
        )


def require_room_to_record(run_dir: Path | None = None) -> None:
    """
    Args:
        run_dir: where to record, if not among the other runs.

    Raises:
        NoRoomError: a machine's consoles and results would not fit there.
    """
    need_free_space(run_dir or runs_dir(), _RUN_BYTES, "recording a run", variable="POPCORN_RUNS")
