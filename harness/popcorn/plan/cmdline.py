# SPDX-License-Identifier: Apache-2.0
"""The kernel command lines that make a plan true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from popcorn import cpulist
from popcorn.config.machine import Machine
from popcorn.config.sizes import KIB, MIB, kernel_size
from popcorn.plan.model import Window
from popcorn.plan.policy import Cpus

MAX_BYTES = 2047

# For kernels of partitions and for SMP Linux alike.  Overwriting translated code is what an
# emulator does slowest: freeing the init code was more than half of a secondary's boot.
# The memory of each CPU, 170 KiB, otherwise lies in a large page, cleared as a whole.
# Where several sockets are emulated, Linux takes their TSCs for unsynchronized and goes by the HPET, an emulated
# device. Secondaries trust the TSC, as their record says what it is; so does whatever is compared with them.
ALWAYS = ("keep_initmem", "percpu_alloc=page", "tsc=reliable")

# Hash tables, with the memory for which a kernel gets an entry. Left alone, Linux makes them for a file server,
# 8 to 16 times as large, and clears them: memory that the host has to give for good, once for each kernel.
HASH_TABLES = {
    "dhash_entries": 128 * KIB,
    "ihash_entries": 256 * KIB,
    "thash_entries": MIB,
    "nf_conntrack.hashsize": 4 * MIB,
}


def plan_words(
    machine: Machine,
    cpus: Cpus,
    memory: Sequence[Window],
    devices: Sequence[str],
    region: Window,
    *,
    smp: bool,
) -> list[str]:
    """The parameters that tell a kernel what it owns.

    Args:
        smp: this is plain SMP Linux on the whole machine; the region lets its console be recorded.
    """
    if 0 not in cpus:
        # Its record decides; the kernel checks that these agree.
        return [f"present_mask={cpulist.format(cpus)}", f"cpu_offset={cpus[0]}"]
    words = [] if smp else [f"present_mask={cpulist.format(cpus)}", "cpu_offset=0"]
    words.append(f"popcorn={kernel_size(region.size)}@{region.start:#x},{machine.nr_cpus}")
    words += [f"memmap={kernel_size(end - start)}${start:#x}" for start, end in foreign_ram(machine, memory)]
    foreign = [device.id for device in machine.devices if device.name not in devices]
    if foreign:
        words.append("pci_dev_flags=" + ",".join(f"0x{i[:4]}:0x{i[5:]}:b" for i in sorted(set(foreign))))
    return words


def cmdline(
    words: Iterable[str],
    memory: Iterable[Window],
    devices: Sequence[str],
    *,
    primary: bool,
    hotplug: bool = False,
    extra: str = "",
) -> str:
    """A whole command line; the last console is the one that init gets, and of two equal parameters the last counts.

    Args:
        words: those of `plan_words`.
        memory: what the kernel boots with.
        hotplug: more memory comes later, and goes.
    """
    size = sum(window.size for window in memory)
    tables = [f"{name}={size // bytes_per_entry}" for name, bytes_per_entry in HASH_TABLES.items()]
    # 64 MiB, cleared, for devices that cannot reach all memory: the primary may find such ones.
    bounce_buffers = [] if primary or devices else ["swiotlb=noforce"]
    # Whatever memory comes brings the array of its pages along, and takes it away again.
    arrays = ["memory_hotplug.memmap_on_memory=force"] if hotplug else []
    consoles = ["console=popcon", "console=ttyS0"] if primary else ["console=popcon"]
    return " ".join([*words, *ALWAYS, *tables, *bounce_buffers, *arrays, *consoles, *extra.split()])


def foreign_ram(machine: Machine, own: Iterable[Window]) -> list[tuple[int, int]]:
    """The RAM that is not a kernel's own, as the fewest ranges (start, end)."""
    ranges: list[tuple[int, int]] = []
    own_by_address = sorted(own, key=lambda window: window.start)
    for piece in machine.ram:
        start = piece.start
        for window in own_by_address:
            if window.end <= start or window.start >= piece.end:
                continue
            if start < window.start:
                ranges.append((start, window.start))
            start = window.end
        if start < piece.end:
            ranges.append((start, piece.end))
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
