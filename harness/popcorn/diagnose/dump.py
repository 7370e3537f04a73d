# SPDX-License-Identifier: Apache-2.0
"""The memory of one kernel of a machine, up or dead, as a core."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from popcorn.diagnose.elfcore import note, prstatus, vmcoreinfo, write_core
from popcorn.diagnose.layout import KernelLayout, Symbols, banner_of, find_layout, windows_of
from popcorn.diagnose.registers import parse_registers
from popcorn.errors import HostError, PopcornError, UserError
from popcorn.machine.booted import BootedKernel, booted_kernels
from popcorn.machine.lastwords import memory_file
from popcorn.machine.layout import Region
from popcorn.machine.machine import Machine
from popcorn.machine.memory import GuestMemory, open_node_files
from popcorn.plan.model import Plan

_NT_PRSTATUS = 1
_MAX_NODES = 64


@dataclass(frozen=True)
class Target:
    """A kernel that is to be looked at from outside."""

    id: int
    booted: BootedKernel
    symbols: Symbols
    cpus: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    """What it owns, physical: start and size."""

    def layout(self, memory: GuestMemory) -> KernelLayout:
        """Where its image lies; errors as for `find_layout`."""
        return find_layout(memory.read, self.windows, self.symbols, banner_of(self.booted.vmlinux, self.symbols))


def target_of(run_dir: Path, plan: Plan, id: int, region: Region | None) -> Target:
    """What is known of a kernel of a run.

    Args:
        region: the shared region, where a kernel that was not in the plan, or is another than at first, is found.

    Raises:
        UserError: it was not built here, so that nobody knows its symbols.
        HostError: what it was built as is gone.
    """
    booted = booted_kernels(run_dir).get(id)
    if booted is None:
        raise UserError(
            f"nothing is known of the build of kernel {id}: it was booted from a file, or by an older Popcorn",
            hint="boot it from what `popcorn build` makes",
        )
    planned = next((partition for partition in plan.partitions if partition.id == id), None)
    cpus, memory = ((), ()) if planned is None else (planned.cpus, [(one.start, one.size) for one in planned.memory])
    if region is not None and region.formatted() and (slot := region.slot(id)).ranges:
        cpus, memory = slot.cpus, [(one.start, one.size) for one in slot.ranges]
    windows = windows_of(memory, primary=id == plan.primary.id)
    return Target(id, booted, Symbols(booted.system_map), tuple(cpus), tuple(windows))


@contextmanager
def at_rest(machine: Machine) -> Iterator[dict[int, dict[str, int]]]:
    """Stop a machine that is up for as long as the block takes; gives the registers of its CPUs, by number.

    Its clocks stand still meanwhile. Errors as for `Qmp`.
    """
    with machine.qmp() as qmp:
        running = qmp.execute("query-status")["running"]
        if running:
            qmp.execute("stop")
        try:
            yield parse_registers(qmp.monitor("info registers -a"))
        finally:
            if running:
                qmp.execute("cont")


def kept_memory(run_dir: Path, plan: Plan) -> GuestMemory:
    """The memory that was kept of a machine that ended.

    Raises:
        UserError: none was kept.
        HostError: it cannot be read.
    """
    paths = [run_dir / memory_file(node) for node in range(_MAX_NODES)]
    kept = [path for path in paths if path.is_file()]
    if len(kept) != len(plan.machine.nodes):
        raise UserError(
            f"the memory of this machine is gone: nothing was kept of it in {run_dir}",
            hint="dump a machine while it is up, or boot it by `popcorn up --keep-memory`",
        )
    return open_node_files(kept, plan.machine.hole.start)


def write_dump(
    path: Path,
    target: Target,
    memory: GuestMemory,
    region: tuple[int, int],
    registers: dict[int, dict[str, int]],
) -> KernelLayout:
    """Write the core of a kernel; returns where the kernel lies.

    Args:
        region: start and size of the memory that kernels share; goes into the core as well. Size 0 for none.
        registers: of the machine's CPUs, where they are known.

    Raises:
        GuestError: the kernel is not in its memory.
        HostError: the file cannot be written.
    """
    layout = target.layout(memory)
    windows: Sequence[tuple[int, int]] = [*target.windows, *([region] if region[1] else [])]
    release = target.booted.release
    notes = b"".join(
        note("CORE", _NT_PRSTATUS, prstatus(registers[cpu], 0)) for cpu in target.cpus if cpu in registers
    ) + note("VMCOREINFO", 0, vmcoreinfo(release, layout, target.symbols).encode())
    try:
        write_core(path, layout, windows, notes, memory.copy_used)
    except (OSError, struct.error) as error:
        raise HostError(
            f"cannot write {path}: {error}", hint="name a place with room for what the kernel uses"
        ) from error
    return layout


def live_region(machine: Machine) -> Region | None:
    """The shared region of a machine, if it has one that can be read."""
    try:
        return machine.region() if machine.record.region_size else None
    except PopcornError:
        return None
