# SPDX-License-Identifier: Apache-2.0
"""What a primary that was booted by the policy hotplug takes and gives on a machine that is up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from popcorn import cpulist, progress
from popcorn.config.sizes import KIB, format_size
from popcorn.errors import GuestError, MachineLostError, UserError
from popcorn.machine.machine import Machine
from popcorn.machine.orders import own_orders
from popcorn.machine.owned import live_kernels
from popcorn.plan.memory import MAX_WINDOWS
from popcorn.plan.model import Window
from popcorn.plan.moves import Moves, Owned, inside, left_behind, missing
from popcorn.plan.pieces import coming, going
from popcorn.plan.windows import overlapping, subtract

_FAILED = " failed: "
_LOCK = "/run/popcorn-own.lock"
# How long pages may take to move elsewhere; with some time for the rest.
_PAGES_S = 120
_ORDER_S = _PAGES_S + 30.0


def settled(machine: Machine) -> dict[int, Owned]:
    """What the kernels that live have, when the primary carries out no orders.

    Those of a command that was ended go on to the end of the one under way.

    Raises:
        GuestError: the primary does not answer, or not within the time that an order may take.
        MachineLostError: the machine is gone.
    """
    live = live_kernels(machine.region())
    # One that panicked takes and gives nothing.
    if machine.plan.hotplug is None or machine.plan.primary.id not in live:
        return live
    machine.primary.run(["flock", _LOCK, "true"], timeout_s=_ORDER_S)
    return live_kernels(machine.region())


def take_back(machine: Machine, ids: Iterable[int]) -> None:
    """Give a primary that takes it what kernels had that have ended.

    What it could not take of kernels that ended before comes as well, if it can by now.

    Raises:
        GuestError: it did not get all of that; the rest is nobody's.
        MachineLostError: the machine is gone.
    """
    live = settled(machine)
    if machine.plan.hotplug is None or machine.plan.primary.id not in live:
        return
    try:
        left = take(machine, left_behind(live, machine.plan, ids))
    except GuestError as error:
        error.hint = f"the rest is nobody's, and there for `popcorn start`; {error.hint}"
        raise
    if left:
        progress.note(
            f"{_listed(left)} is nobody's for now: the primary's memory can be in {MAX_WINDOWS} pieces. It takes that "
            "when what lies between is free, too; `popcorn start` and `popcorn repartition` use it"
        )


def make_room(machine: Machine, ids: Iterable[int]) -> None:
    """Have the primary let go of what kernels need that are to start.

    Raises:
        UserError: it has too much in its memory for that, or would have it in too many pieces.
        GuestError: it cannot; it has what it had.
        MachineLostError: the machine is gone.
    """
    live = settled(machine)
    if machine.plan.hotplug is None or machine.plan.primary.id not in live:
        return
    todo = missing(live, machine.plan, ids)
    _room(machine, live).require(todo)
    if going(live[machine.plan.primary.id].memory, todo.give_memory).left:
        raise UserError(
            f"the primary's memory would be in more than {MAX_WINDOWS} pieces, which no kernel can have",
            hint="start a neighbour as well, or cut the machine otherwise: `popcorn repartition`",
        )
    give(machine, todo)


def gives_first(machine: Machine, live: dict[int, Owned], todo: Moves) -> bool:
    """Whether a primary can give before anything else is done, so that nothing has ended if it cannot.

    Raises:
        UserError: it can do neither that nor take first; nothing was done.
        GuestError: it does not answer.
        MachineLostError: the machine is gone.
    """
    room = _room(machine, live)
    room.require(todo)
    own = live[machine.plan.primary.id].memory
    gone = going(own, todo.give_memory)
    if not gone.left and not coming(gone.has, todo.take_memory).left and room.holds(todo.give_memory):
        return True
    come = coming(own, todo.take_memory)
    if come.left or going(come.has, todo.give_memory).left:
        raise UserError(
            f"the primary's memory would be in more than {MAX_WINDOWS} pieces, which no kernel can have",
            hint="cut the machine otherwise: fewer kernels, or other CPUs and sizes",
        )
    return False


@dataclass(frozen=True)
class _Room:
    """Memory of the primary, in bytes."""

    primary: int
    used: int
    total: int
    """What Linux counts: a little less than what it owns, without the arrays of pages."""
    owned: int

    def left(self, given: int) -> int:
        return self.total * (self.owned - given) // self.owned

    def holds(self, windows: Iterable[Window]) -> bool:
        """Whether what is used has room when these have gone."""
        return self.used <= self.left(_sum(windows))

    def require(self, todo: Moves) -> None:
        """See that what the primary's memory holds has room in what it keeps.

        Without, Linux would look for room in vain until somebody ends that.
        """
        given = _sum(todo.give_memory) - _sum(todo.take_memory)
        if given > 0 and self.used > self.left(given):
            raise UserError(
                f"the primary uses {format_size(self.used)} of its memory, and {format_size(self.left(given))} are "
                f"left when {format_size(given)} have moved",
                hint="end some of its processes, or remove what lies in memory, as all its files do; "
                f"`popcorn repartition` leaves it more with --size {self.primary}=SIZE",
            )


def _room(machine: Machine, live: dict[int, Owned]) -> _Room:
    primary = machine.plan.primary.id
    lines = machine.primary.get("/proc/meminfo").decode().splitlines()
    told = {line.partition(":")[0]: int(line.split()[1]) * KIB for line in lines}
    used = told["MemTotal"] - told["MemAvailable"]
    return _Room(primary, used, told["MemTotal"], _sum(live[primary].memory))


def take(machine: Machine, todo: Moves) -> tuple[Window, ...]:
    """Have the primary take what is nobody's; returns what it cannot have because its memory is in too many pieces.

    Raises:
        GuestError: naming what could not be moved; what came before it was.
        MachineLostError: the machine is gone.
    """
    if machine.plan.hotplug is None:
        return ()
    order = coming(live_kernels(machine.region())[machine.plan.primary.id].memory, todo.take_memory)
    number = _numbers(machine)
    lines = [*own_orders("add", order.pieces), *(f"cpu online {number[cpu]}" for cpu in todo.take_cpus)]
    _unload(machine, todo)
    _carry_out(machine, lines, _amounts(todo.take_cpus, order.pieces))
    return order.left


def give(machine: Machine, todo: Moves) -> None:
    """Have the primary let go of something, of all or of nothing.

    Raises:
        GuestError: naming what could not be moved; the hint tells whether the primary has again what it had.
        MachineLostError: the machine is gone.
    """
    if machine.plan.hotplug is None:
        return
    primary = machine.plan.primary.id
    before = live_kernels(machine.region())[primary]
    number = _numbers(machine)
    # Memory leaves faster without them: each CPU has to be asked for the pages it keeps.
    lines = [
        *(f"cpu offline {number[cpu]}" for cpu in reversed(todo.give_cpus)),
        *own_orders("remove", going(before.memory, todo.give_memory).pieces),
    ]
    try:
        _carry_out(machine, lines, _amounts(todo.give_cpus, todo.give_memory))
    except MachineLostError:
        raise
    except GuestError as error:
        error.hint = f"{_restored(machine, before)}; {error.hint}"
        raise


def _restored(machine: Machine, before: Owned) -> str:
    """Give the primary again what it had; how that went, in words."""
    try:
        now = settled(machine)[machine.plan.primary.id]
        memory = inside(machine.plan, subtract(before.memory, now.memory))
        left = take(machine, Moves(take_memory=memory, take_cpus=tuple(sorted(set(before.cpus) - set(now.cpus)))))
    except (GuestError, KeyError) as error:
        return f"what the primary had let go of is nobody's, as it did not take it again ({error})"
    return f"{_listed(left)} is nobody's now" if left else "the primary has again what it had"


def _unload(machine: Machine, todo: Moves) -> None:
    """Have the primary forget kernels that it loaded and never started, where they keep what it is to take."""
    for slot in machine.region().slots():
        loaded = slot.state == "loaded" and slot.loader == machine.plan.primary.id
        ranges = [Window(start=one.start, size=one.size, node=0) for one in slot.ranges if one.size]
        if not loaded or not (set(slot.cpus) & set(todo.take_cpus) or overlapping(ranges, todo.take_memory)):
            continue
        done = machine.primary.run(["sh", "-c", f"PATH=/sbin:$PATH kexec --popcorn --unload --boot={slot.id}"])
        if done.status:
            raise GuestError(f"kernel {slot.id}, which never started, is still loaded: {done.stderr_text.strip()}")


def _carry_out(machine: Machine, lines: Sequence[str], amounts: str) -> None:
    if not lines:
        return
    primary = machine.plan.primary.id
    with progress.step(f"moving {amounts}") as step:
        heard = bytearray()

        def hear(stream: str, data: bytes) -> None:
            if stream == "stdout":
                heard.extend(data)
                step.update(f"{heard.count(b' ok')}/{len(lines)}")

        done = machine.primary.run(
            ["sh", "-c", f"PATH=/sbin:$PATH exec popcorn-own {_PAGES_S}"],
            stdin="".join(f"{line}\n" for line in lines).encode(),
            on_output=hear,
        )
    if done.status:
        failed = [line for line in done.stdout_text.splitlines() if _FAILED in line]
        order, _, cause = failed[-1].partition(": ")[2].partition(_FAILED) if failed else ("", "", "")
        raise GuestError(
            f"kernel {primary} could not carry out {order!r}: {cause}"
            if failed
            else f"popcorn-own in kernel {primary}: {done.stderr_text.strip() or f'it ended with {done.status}'}",
            hint=f"what it said: `popcorn log {primary} --name {machine.name}`",
        )


def _numbers(machine: Machine) -> dict[int, int]:
    """How the primary itself numbers CPUs."""
    return {cpu: index for index, cpu in enumerate(machine.plan.hotplug.cpus)} if machine.plan.hotplug else {}


def _sum(windows: Iterable[Window]) -> int:
    return sum(window.size for window in windows)


def _listed(windows: Iterable[Window]) -> str:
    return f"the memory {', '.join(str(window) for window in windows)}"


def _amounts(cpus: Sequence[int], memory: Sequence[Window]) -> str:
    parts = [f"CPU{'s' if len(cpus) > 1 else ''} {cpulist.format(cpus)}"] if cpus else []
    return " and ".join([*parts, "memory"] if memory else parts)
