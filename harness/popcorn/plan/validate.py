# SPDX-License-Identifier: Apache-2.0
"""The rules that every plan obeys, whoever made it."""

from __future__ import annotations

from popcorn import cpulist
from popcorn.config.machine import FIRST_MIB
from popcorn.config.sizes import format_size
from popcorn.errors import UserError
from popcorn.plan.cmdline import MAX_BYTES, plan_words
from popcorn.plan.memory import BLOCK, MAX_WINDOWS, MIN_PARTITION, SECTION, region_size
from popcorn.plan.model import Partition, Plan, Window
from popcorn.plan.policy import SMP
from popcorn.plan.windows import subtract

_OURS = ("present_mask", "cpu_offset", "popcorn", "memmap", "pci_dev_flags")


def validate(plan: Plan) -> None:
    """Refuse a plan that breaks a rule.

    Raises:
        UserError: naming the first rule that is broken, where, and what to do.
    """
    _check_cpus(plan)
    for partition in plan.partitions:
        _check_windows(plan, partition)
    _check_region(plan)
    _check_no_overlap(plan)
    _check_primary_memory(plan)
    _check_hotplug(plan)
    _check_devices(plan)
    for partition in plan.partitions:
        _check_cmdline(plan, partition)


def _check_cpus(plan: Plan) -> None:
    machine = plan.machine
    owner: dict[int, int] = {}
    for partition in plan.partitions:
        for cpu in partition.cpus:
            _require(
                cpu < machine.nr_cpus,
                f"kernel {partition.id} is given CPU {cpu}, which machine {machine.name} does not have",
                f"its CPUs are 0-{machine.nr_cpus - 1}",
            )
            _require(
                cpu not in owner,
                f"CPU {cpu} is given twice: to kernel {owner.get(cpu)} and to kernel {partition.id}",
                "a CPU belongs to one kernel; remove it from the other",
            )
            owner[cpu] = partition.id
        _require(
            partition.id == min(partition.cpus),
            f"the kernel with CPUs {cpulist.format(partition.cpus)} has the id {partition.id}",
            f"a kernel's id is its smallest CPU: {min(partition.cpus)}",
        )
        right = tuple(machine.apic_id(cpu) for cpu in partition.cpus)
        _require(
            partition.apic_ids == right,
            f"kernel {partition.id} has the APIC ids {list(partition.apic_ids)}",
            f"its CPUs have {list(right)} on machine {machine.name}; leave them out to have them filled in",
        )
    _require(
        0 in owner,
        "no kernel has CPU 0",
        "the firmware boots the primary on CPU 0: give it to one of the kernels",
    )


def _check_windows(plan: Plan, partition: Partition) -> None:
    kernel = f"kernel {partition.id}"
    _require(
        partition.memory_bytes >= MIN_PARTITION - FIRST_MIB,
        f"{kernel} has {format_size(partition.memory_bytes)} of memory",
        f"a kernel needs at least {format_size(MIN_PARTITION)}: plan fewer kernels, or give it more with --size",
    )
    _require(
        len(partition.memory) <= MAX_WINDOWS,
        f"the memory of {kernel} is in {len(partition.memory)} windows; a kernel can have {MAX_WINDOWS}",
        "divide the memory by --memory numa, or give the kernel CPUs of fewer nodes",
    )
    for window in partition.memory:
        _check_window(plan, window, f"the window {window} of {kernel}", may_start_at_first_mib=partition.is_primary)


def _check_window(plan: Plan, window: Window, name: str, *, may_start_at_first_mib: bool = False) -> None:
    machine = plan.machine
    _require(
        window.start >= FIRST_MIB,
        f"{name} reaches into the first MiB, which belongs to no kernel",
        f"begin at {FIRST_MIB:#x} for the primary, at {BLOCK:#x} or higher for others",
    )
    first = may_start_at_first_mib and window.start == FIRST_MIB
    _require(
        (first or window.start % BLOCK == 0) and window.end % BLOCK == 0,
        f"{name} is not aligned to 2 MiB",
        f"use {window.start // BLOCK * BLOCK:#x}-{-(-window.end // BLOCK) * BLOCK:#x} or round inward",
    )
    hole = machine.hole
    _require(
        window.end <= hole.start or window.start >= hole.end,
        f"{name} reaches into the PCI hole {hole.start:#x}-{hole.end:#x}",
        "memory there belongs to devices; make two windows, one on each side",
    )
    pieces = [piece for piece in machine.ram if piece.start < window.end and window.start < piece.end]
    inside = [piece for piece in pieces if piece.start <= window.start and window.end <= piece.end]
    ram = ", ".join(f"{piece.start:#x}-{piece.end:#x} (node {piece.node})" for piece in machine.ram)
    _require(
        bool(inside),
        f"{name} spans {len(pieces)} pieces of RAM" if len(pieces) > 1 else f"{name} is outside the machine's memory",
        f"the RAM of {machine.name} is {ram}; a window lies in one of these",
    )
    _require(
        inside[0].node == window.node,
        f"{name} is said to be in node {window.node}",
        f"it is in node {inside[0].node}",
    )


def _check_region(plan: Plan) -> None:
    region = plan.region
    name = f"the shared region {region}"
    _check_window(plan, region, name)
    needed = region_size(plan.nr_kernels)
    _require(
        region.size >= needed,
        f"{name} has {format_size(region.size)}",
        f"a machine of {plan.nr_kernels} CPUs needs {format_size(needed)}",
    )
    _require(
        region.end <= plan.machine.hole.start,
        f"{name} is above the PCI hole",
        f"place it below {plan.machine.hole.start:#x}, where every kernel can reach it early in its boot",
    )


def _check_no_overlap(plan: Plan) -> None:
    owned = [(plan.region, "the shared region")]
    owned += [(window, f"kernel {part.id}") for part in plan.partitions for window in part.memory]
    owned.sort(key=lambda item: item[0].start)
    reaches_furthest = owned[0]
    for window, name in owned[1:]:
        left, left_name = reaches_furthest
        _require(
            left.end <= window.start,
            f"the window {left} of {left_name} and the window {window} of {name} overlap from {window.start:#x} "
            f"to {min(left.end, window.end):#x}",
            "move one of them, or make it smaller",
        )
        reaches_furthest = (window, name)


def _check_primary_memory(plan: Plan) -> None:
    _require(
        any(window.start == FIRST_MIB for window in plan.primary.memory),
        "the primary (the kernel with CPU 0) does not own the memory that begins at 0x100000",
        "the firmware loads it there: give it a window with that start",
    )


def _check_hotplug(plan: Plan) -> None:
    if plan.hotplug is None:
        return
    kept = ", ".join(str(window) for window in plan.hotplug.memory)
    never = sorted(set(plan.primary.cpus) - set(plan.hotplug.cpus))
    _require(
        not never,
        f"the primary is given CPU {cpulist.format(never)}, with which it does not boot",
        f"it can have CPUs {cpulist.format(plan.hotplug.cpus)}",
    )
    for window in subtract(plan.hotplug.memory, plan.primary.memory):
        _require(
            False,
            f"the primary boots with {window} and cannot give it away, and the plan gives it to another or to none",
            f"it keeps {kept}",
        )
    foreign = [window for partition in plan.secondaries for window in partition.memory]
    for window in [*subtract(plan.primary.memory, plan.hotplug.memory), *foreign]:
        _require(
            window.start % SECTION == 0 and window.end % SECTION == 0,
            f"the window {window} is not aligned to {format_size(SECTION)}",
            "memory moves between live kernels in blocks of that size",
        )


def _check_devices(plan: Plan) -> None:
    known = [device.name for device in plan.machine.devices]
    owner: dict[str, int] = {}
    for partition in plan.partitions:
        for name in partition.devices:
            _require(
                name in known,
                f"kernel {partition.id} is given the device {name!r}, which machine {plan.machine.name} does not have",
                f"its devices are {', '.join(known)}" if known else "it has none that can be assigned",
            )
            _require(
                name not in owner,
                f"the device {name!r} is given twice: to kernel {owner.get(name)} and to kernel {partition.id}",
                "a device belongs to one kernel",
            )
            owner[name] = partition.id
            _require(
                partition.is_primary,
                f"the device {name!r} is given to kernel {partition.id}; only the primary can own PCI devices "
                "in this version",
                f"give it to kernel {plan.primary.id}, or to none",
            )


def _check_cmdline(plan: Plan, partition: Partition) -> None:
    kernel = f"the command line of kernel {partition.id}"
    length = len(partition.cmdline.encode())
    _require(
        length <= MAX_BYTES,
        f"{kernel} has {length} bytes; the kernel takes {MAX_BYTES}",
        "shorten what you added to it, or let the kernel have fewer, larger ranges of CPUs and memory",
    )
    _require(
        partition.cmdline.isprintable() and partition.cmdline.isascii(),
        f"{kernel} contains a character that is not printable ASCII",
        "remove it",
    )
    cpus, memory = plan.booted_with(partition)
    expected = plan_words(plan.machine, cpus, memory, partition.devices, plan.region, smp=plan.policy == SMP)
    found = partition.cmdline.split()
    for word in expected:
        _require(
            word in found,
            f"{kernel} lacks {word!r}, which follows from its CPUs and memory",
            "leave the command line out of the plan to have it made",
        )
    for word in found:
        _require(
            word in expected or word.partition("=")[0] not in _OURS,
            f"{kernel} says {word!r}, which contradicts its CPUs and memory",
            "remove that word, or change the plan instead",
        )


def _require(holds: bool, message: str, hint: str) -> None:
    if not holds:
        raise UserError(message, hint=hint)
