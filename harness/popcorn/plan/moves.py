# SPDX-License-Identifier: Apache-2.0
"""What has to move on a machine that is up until it is cut as a plan says.

Compared with what the kernels have now, not with what was planned: what was interrupted goes on where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from popcorn import cpulist
from popcorn.config.sizes import format_size
from popcorn.plan.model import Partition, Plan, Window
from popcorn.plan.windows import by_address, subtract


@dataclass(frozen=True)
class Owned:
    """What a kernel that lives has."""

    cpus: tuple[int, ...]
    memory: tuple[Window, ...]


@dataclass(frozen=True)
class Moves:
    """What the primary takes is free when kernels have ended; what it gives is for those that start."""

    untouched: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    take_memory: tuple[Window, ...] = ()
    take_cpus: tuple[int, ...] = ()
    give_cpus: tuple[int, ...] = ()
    give_memory: tuple[Window, ...] = ()
    start: tuple[int, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return any((self.stop, self.take_memory, self.take_cpus, self.give_cpus, self.give_memory, self.start))

    def lines(self) -> list[str]:
        """What there is to do, in words."""
        if not self.any:
            return ["nothing has to move"]
        told = []
        if self.untouched:
            told.append(f"untouched: {_kernels(self.untouched)}")
        if self.stop:
            told.append(f"stop {_kernels(self.stop)}")
        for verb, cpus, memory in (
            ("take back", self.take_cpus, self.take_memory),
            ("give away", self.give_cpus, self.give_memory),
        ):
            parts = [f"CPU{'s' if len(cpus) > 1 else ''} {cpulist.format(cpus)}"] if cpus else []
            if memory:
                size = format_size(sum(window.size for window in memory))
                parts.append(f"{size} ({', '.join(str(window) for window in memory)})")
            if parts:
                told.append(f"the primary: {verb} {' and '.join(parts)}")
        if self.start:
            told.append(f"start {_kernels(self.start)}")
        return told


def _kernels(ids: Iterable[int]) -> str:
    several = list(ids)
    return f"kernel{'s' if len(several) > 1 else ''} {cpulist.format(several)}"


def moves(live: Mapping[int, Owned], target: Plan, *, again: Iterable[int] = ()) -> Moves:
    """The moves that lead from what kernels have now to a plan.

    Args:
        live: every kernel that lives, by id; the primary among them.
        target: one that the machine can get to (`require_reachable`).
        again: kernels that are to be started anew though they have what they shall have.
    """
    planned = {partition.id: partition for partition in target.partitions}
    primary = target.primary
    has = {id: Owned(owned.cpus, inside(target, owned.memory)) for id, owned in live.items()}
    same = {id for id in has if id in planned and _same(has[id], planned[id])} - set(again)
    own = has[primary.id]
    return Moves(
        untouched=tuple(sorted(same)),
        stop=tuple(sorted(has.keys() - same - {primary.id})),
        take_memory=by_address(subtract(primary.memory, own.memory)),
        take_cpus=tuple(sorted(set(primary.cpus) - set(own.cpus))),
        give_cpus=tuple(sorted(set(own.cpus) - set(primary.cpus))),
        give_memory=by_address(subtract(own.memory, primary.memory)),
        start=tuple(sorted(planned.keys() - same - {primary.id})),
    )


def left_behind(live: Mapping[int, Owned], plan: Plan, ids: Iterable[int]) -> Moves:
    """What the primary can take when some kernels have ended: all that they had and nobody has.

    Memory of others that ended before, whose CPUs it took then, comes as well: it had to be left then.

    Args:
        live: as for `moves`.
        plan: one with a primary that gives and takes.
        ids: of the kernels that have ended; any that lives, or that another plan knows, is left out.
    """
    ended = [one for one in plan.secondaries if one.id in set(ids) - live.keys()]
    before = [
        one for one in plan.secondaries if one.id not in live and set(one.cpus) <= set(live[plan.primary.id].cpus)
    ]
    used = {cpu for owned in live.values() for cpu in owned.cpus}
    free = {cpu for one in ended for cpu in one.cpus} - used
    theirs = _memory_of({one.id: one for one in (*ended, *before)}.values())
    memory = subtract(theirs, [window for owned in live.values() for window in owned.memory])
    possible = plan.hotplug.cpus if plan.hotplug is not None else ()
    return Moves(take_memory=by_address(memory), take_cpus=tuple(sorted(free & set(possible))))


def missing(live: Mapping[int, Owned], plan: Plan, ids: Iterable[int]) -> Moves:
    """What the primary has of the CPUs and the memory that some kernels need, which do not live."""
    wanted = [plan.partition(id) for id in ids if id not in live]
    own = live[plan.primary.id]
    memory = _memory_of(wanted)
    return Moves(
        give_cpus=tuple(sorted({cpu for one in wanted for cpu in one.cpus} & set(own.cpus))),
        give_memory=by_address(subtract(memory, subtract(memory, own.memory))),
    )


def _memory_of(partitions: Iterable[Partition]) -> list[Window]:
    return [window for partition in partitions for window in partition.memory]


def _same(has: Owned, planned: Partition) -> bool:
    differs = subtract(planned.memory, has.memory) or subtract(has.memory, planned.memory)
    return has.cpus == planned.cpus and not differs


def inside(plan: Plan, windows: Iterable[Window]) -> tuple[Window, ...]:
    """What of some windows can be a kernel's, cut where nodes meet.

    A kernel tells its memory without nodes, and a primary tells what is the firmware's as well.
    """
    several = list(windows)
    return tuple(
        Window(
            start=max(window.start, piece.start),
            size=min(window.end, piece.end) - max(window.start, piece.start),
            node=piece.node,
        )
        for piece in plan.machine.ram
        for window in sorted(several, key=lambda window: window.start)
        if window.start < piece.end and piece.start < window.end
    )
