# SPDX-License-Identifier: Apache-2.0
"""The time of day of a machine that stood still: told to its kernels through the shared region.

They step their clocks when their hearts beat next, within a second (6.12: kernel/popcorn/clock.c).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from popcorn.errors import HostError
from popcorn.machine.layout import load_layout
from popcorn.machine.memory import GuestMemory
from popcorn.machine.registry import Record

# QEMU's state of its clocks as it saves it: name, instance and version of the section, then the time stamp counter of
# a machine that stands still (vmstate_timers in softmmu/cpu-timers.c).
_TIMER_SECTION = b"\x05timer" + struct.pack(">II", 0, 2)
_WORD = struct.Struct("<Q")
_SEQUENCE = struct.Struct("<I")


def frozen_tsc(state: bytes, *, at_least: int, at_most: int) -> int:
    """The time stamp counter of a machine that stood still when QEMU saved its state.

    Args:
        at_least: what the counter was at some time before.
        at_most: what it could be.

    Raises:
        HostError: it is not in there, or makes no sense.
    """
    begin = state.find(_TIMER_SECTION)
    if begin >= 0:
        (tsc,) = struct.unpack_from(">q", state, begin + len(_TIMER_SECTION))
        if at_least <= tsc <= at_most:
            return int(tsc)
        found = f"{tsc:#x} is not between {at_least:#x} and {at_most:#x}"
    else:
        found = "there is none in what QEMU wrote"
    raise HostError(f"the time stamp counter of the machine is not known: {found}", hint="this QEMU is not known yet")


def set_time_of_day(record: Record, memory: GuestMemory, *, tsc: int, wall_s: float) -> None:
    """Have all kernels set their clocks.

    Args:
        memory: the machine's, writable.
        tsc: the time stamp counter at
        wall_s: this Unix time.

    Raises:
        HostError: the kernels' header cannot be read.
    """
    ffi = load_layout(Path(record.header)).ffi

    fields = dict(ffi.typeof("struct popcorn_header").fields)

    def place(member: str) -> tuple[int, int]:
        (extent,) = memory.extents(record.region_start + fields[member].offset, ffi.sizeof(fields[member].type))
        return memory.nodes[extent.node].fd, extent.offset

    values = {"wall_ns": int(wall_s * 1e9), "wall_tsc": tsc}
    if not {*values, "clock_seq"} <= fields.keys():
        raise HostError(
            "the machine's kernels cannot be told the time of day: their popcorn.h lacks clock_seq",
            hint="build the kernels anew and boot the machine again",
        )
    sequence_fd, sequence_at = place("clock_seq")
    (sequence,) = _SEQUENCE.unpack(os.pread(sequence_fd, _SEQUENCE.size, sequence_at))
    # The machine may run: 0 is no time to follow, so that nobody takes one word of this and one of the last.
    os.pwrite(sequence_fd, _SEQUENCE.pack(0), sequence_at)
    for member, value in values.items():
        fd, offset = place(member)
        os.pwrite(fd, _WORD.pack(value), offset)
    os.pwrite(sequence_fd, _SEQUENCE.pack(sequence % 0xFFFFFFFF + 1), sequence_at)
