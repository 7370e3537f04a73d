# SPDX-License-Identifier: Apache-2.0
"""From the plan of a machine that is up to its next one: kernels whose CPUs stay keep their memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from popcorn import cpulist
from popcorn.errors import UserError
from popcorn.plan.cmdline import cmdline, plan_words
from popcorn.plan.memory import BLOCK, SECTION, divide, pools
from popcorn.plan.model import Partition, Plan, Window
from popcorn.plan.policy import SMP, Cpus, cpu_groups
from popcorn.plan.validate import validate
from popcorn.plan.windows import by_address, free_blocks, subtract

# A kernel that comes into a node, and would get less than this share of its part of it: those there make room.
_LEAST_SHARE = 0.5
_HINT = "`popcorn up --policy hotplug` boots a primary that gives CPUs and memory away and takes them back"


def next_plan(
    current: Plan,
    policy: str,
    *,
    memory: str = "numa",
    sizes: Mapping[int, int] | None = None,
    parameters: str = "",
) -> Plan:
    """How a machine that is up can be cut by another policy, moving as little as possible.

    A kernel that has the same CPUs in both plans keeps its memory, unless a size is given for it, or a new kernel
    would get less than half of its part without. The others divide what is free. The same arguments give the same
    plan again when the machine was cut by it.

    Args:
        policy: as for `make_plan`.
        memory: likewise.
        sizes: likewise.
        parameters: words at the end of the command lines of kernels that are not as they were.

    Raises:
        UserError: what it takes cannot be moved; the message names it.
    """
    if memory not in ("numa", "flat"):
        raise UserError(f"unknown way to divide memory {memory!r}", hint="it is numa or flat")
    if policy == SMP:
        raise UserError(
            "smp is Linux without other kernels, for which the machine has to be booted anew",
            hint="the policy hotplug gives all CPUs and memory to the primary",
        )
    groups = {cpus[0]: cpus for cpus in cpu_groups(current.machine, policy)}
    sizes = sizes or {}
    _check_primary(current, groups[0], sizes)
    had = {partition.id: partition for partition in current.partitions}
    kept = {id: had[id] for id, cpus in groups.items() if id in had and had[id].cpus == cpus}
    kept = _without_neighbours(current, kept, groups, memory, sizes)
    while True:
        windows = _windows(current, groups, kept, memory, sizes)
        tight = _tight(current, groups, windows, memory) - sizes.keys()
        staying = _without_neighbours(current, kept, groups, memory, tight)
        if len(staying) == len(kept):
            break
        kept = staying
    partitions = [
        kept[id] if id in kept else _partition(current, cpus, windows[id], parameters) for id, cpus in groups.items()
    ]
    plan = current.with_partitions(partitions, policy)
    validate(plan)
    return plan


def _check_primary(current: Plan, cpus: Cpus, sizes: Mapping[int, int]) -> None:
    """Refuse what a primary cannot do that was booted without, or with too little."""
    primary = current.primary
    if current.hotplug is None:
        moving = sorted(set(cpus) ^ set(primary.cpus))
        if moving:
            verb = "come to" if moving[0] in cpus else "leave"
            raise UserError(
                f"CPU {cpulist.format(moving)} cannot {verb} the primary, which was booted to keep CPUs "
                f"{cpulist.format(primary.cpus)}",
                hint=_HINT,
            )
        if primary.id in sizes:
            raise UserError("the primary's memory cannot change: it was booted to keep what it has", hint=_HINT)
    elif never := sorted(set(cpus) - set(current.hotplug.cpus)):
        raise UserError(
            f"CPU {cpulist.format(never)} cannot come to the primary, which was booted without",
            hint=f"it can have CPUs {cpulist.format(current.hotplug.cpus)}",
        )


def _windows(
    current: Plan, groups: Mapping[int, Cpus], kept: Mapping[int, Partition], memory: str, sizes: Mapping[int, int]
) -> dict[int, list[Window]]:
    """The memory of each kernel that does not keep its own."""
    hotplug = current.hotplug
    block = SECTION if hotplug is not None else BLOCK
    primary = current.primary.id
    # What it boots with is its for good, and part of what it gets.
    held = hotplug.memory if hotplug is not None and primary not in kept else ()
    taken = [current.region, *held, *(window for partition in kept.values() for window in partition.memory)]
    claims = {id: cpus for id, cpus in groups.items() if id not in kept}
    free = free_blocks(current.machine, taken, block)
    divided = []
    for number, pool in enumerate(pools(current.machine, claims, memory, free, block)):
        here = [window for window in held if memory == "flat" or window.node == number]
        if here and primary in pool.claims:
            # Rounded up: the shared region is in one of them, and nothing else can be.
            blocks = sum(-(-window.size // block) for window in here)
            pool = pool.holding({primary: blocks})
        divided.append(pool)
    given = divide(divided, sizes, claims)
    if primary in given:
        given[primary] = list(by_address([*held, *given[primary]]))
    return given


def _tight(current: Plan, groups: Mapping[int, Cpus], windows: Mapping[int, list[Window]], memory: str) -> set[int]:
    """The kernels that would get less than half of their part, had everything been divided anew."""
    bound = _bound(current)
    sharing = {id: cpus for id, cpus in groups.items() if id not in bound}
    taken = [current.region, *(window for partition in bound.values() for window in partition.memory)]
    part = dict.fromkeys(sharing, 0.0)
    for pool in pools(current.machine, sharing, memory, free_blocks(current.machine, taken, BLOCK)):
        for id, claim in pool.claims.items():
            part[id] += pool.blocks * BLOCK * claim / sum(pool.claims.values())
    sizes = {id: sum(window.size for window in given) for id, given in windows.items()}
    return {id for id, size in sizes.items() if size < part.get(id, 0.0) * _LEAST_SHARE}


def _without_neighbours(
    current: Plan, kept: Mapping[int, Partition], groups: Mapping[int, Cpus], memory: str, ids: Iterable[int]
) -> dict[int, Partition]:
    """Of the kernels that keep their memory those that do not share it with any of some others: these get room."""

    def nodes(cpus: Cpus) -> set[int]:
        return {0} if memory == "flat" else {current.machine.node_of(cpu) for cpu in cpus}

    anew = {node for id in ids for node in nodes(groups.get(id, ()))}
    bound = _bound(current)
    return {id: partition for id, partition in kept.items() if id in bound or not nodes(groups[id]) & anew}


def _bound(current: Plan) -> dict[int, Partition]:
    """The primary, if it has to keep what it has."""
    return {current.primary.id: current.primary} if current.hotplug is None else {}


def _partition(current: Plan, cpus: Cpus, memory: list[Window], parameters: str) -> Partition:
    machine = current.machine
    primary = current.primary
    if cpus[0] == primary.id:
        # It goes on, with the command line that it was booted with.
        devices, line = primary.devices, primary.cmdline
    else:
        devices = ()
        words = plan_words(machine, cpus, memory, devices, current.region, smp=False)
        line = cmdline(words, memory, devices, primary=False, extra=parameters)
    return Partition(
        id=cpus[0],
        cpus=cpus,
        apic_ids=tuple(machine.apic_id(cpu) for cpu in cpus),
        memory=tuple(memory),
        devices=devices,
        cmdline=line,
    )


def require_reachable(current: Plan, target: Plan) -> None:
    """Refuse a plan to which a machine that is up with another one cannot go.

    Args:
        target: valid in itself.

    Raises:
        UserError: naming what cannot be moved.
    """
    for cannot_move, before, after in (
        ("the machine", current.machine.name, target.machine.name),
        ("the shared region", str(current.region), str(target.region)),
        ("what the primary boots with", _hotplug_text(current), _hotplug_text(target)),
        ("the devices of the primary", " ".join(current.primary.devices), " ".join(target.primary.devices)),
    ):
        if before != after:
            raise UserError(
                f"{cannot_move} cannot change while a machine is up: it is {before or 'none'} now, "
                f"and {after or 'none'} in the new plan",
                hint="leave it out of the plan, or boot the machine anew with that plan",
            )
    if current.machine != target.machine:
        raise UserError(f"the new plan describes machine {current.machine.name} otherwise than the one that is up")
    _check_primary(current, target.primary.cpus, {})
    if current.hotplug is None and (moving := _difference(current.primary.memory, target.primary.memory)):
        raise UserError(
            f"the memory {', '.join(str(window) for window in moving)} cannot come to or leave the primary, "
            "which was booted to keep what it has",
            hint=_HINT,
        )


def _difference(these: Iterable[Window], those: Iterable[Window]) -> list[Window]:
    return subtract(these, those) + subtract(those, these)


def _hotplug_text(plan: Plan) -> str:
    if plan.hotplug is None:
        return "its partition"
    memory = ", ".join(str(window) for window in plan.hotplug.memory)
    return f"CPUs {cpulist.format(plan.hotplug.cpus)} and the memory {memory}"


def parameters_of(plan: Plan, partition: Partition) -> str:
    """The words that somebody added to a kernel's command line, behind those that follow from the plan."""
    cpus, memory = plan.booted_with(partition)
    words = plan_words(plan.machine, cpus, memory, partition.devices, plan.region, smp=plan.policy == SMP)
    hotplug = partition.is_primary and plan.hotplug is not None
    made = cmdline(words, memory, partition.devices, primary=partition.is_primary, hotplug=hotplug)
    return partition.cmdline.removeprefix(made).strip() if partition.cmdline.startswith(made) else ""
