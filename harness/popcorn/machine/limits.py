# SPDX-License-Identifier: Apache-2.0
"""Whether this host has room for a machine."""

from __future__ import annotations

from pathlib import Path

import psutil

from popcorn import progress
from popcorn.build.disk import need_free_space
from popcorn.dirs import runs_dir
from popcorn.plan.model import Plan

_MIB = 1 << 20
# Measured: what an idle kernel of this configuration touches, and QEMU without its guest.
_KERNEL_BYTES = 32 * _MIB
_QEMU_BYTES = 1024 * _MIB
# struct page: 64 bytes for each 4096.
_PAGE_ARRAY_SHARE = 64
# Consoles, events, results and what is touched of the shared region: 48 kernels leave a few MiB.
_RUN_BYTES = 32 * _MIB


def expected_bytes(plan: Plan) -> int:
    """About how much of the host's memory a machine takes while its kernels are idle."""
    page_arrays = sum(partition.memory_bytes for partition in plan.partitions) // _PAGE_ARRAY_SHARE
    return _QEMU_BYTES + len(plan.partitions) * _KERNEL_BYTES + page_arrays


def warn_of_scarce_memory(plan: Plan) -> None:
    """Tell the user when the host has less memory free than the idle machine will take."""
    free = psutil.virtual_memory().available
    expected = expected_bytes(plan)
    if expected > free:
        progress.note(
            f"warning: this machine will take about {expected // _MIB} MiB of memory when idle, "
            f"and the host has {free // _MIB} MiB available; give its kernels less (--size), or plan fewer"
        )


def require_room_to_record(run_dir: Path | None = None) -> None:
    """
    Args:
        run_dir: where to record, if not among the other runs.

    Raises:
        DiskFullError: a machine's consoles and results would not fit there.
    """
    need_free_space(run_dir or runs_dir(), _RUN_BYTES, "recording a run", variable="POPCORN_RUNS")
