# SPDX-License-Identifier: Apache-2.0
"""What a primary that was booted by the policy hotplug takes and gives on a machine that is up."""

from __future__ import annotations

from collections.abc import Iterable

from popcorn import cpulist, progress
from popcorn.config.sizes import KIB, format_size
from popcorn.errors import GuestError, UserError
from popcorn.machine.machine import Machine
from popcorn.machine.orders import own_orders
from popcorn.machine.owned import live_kernels
from popcorn.plan.moves import Moves, Owned, left_behind, missing

_FAILED = " failed: "
# As in popcorn-own, with some time for the rest.
_LOCK = "/run/popcorn-own.lock"
_ORDER_S = 150.0


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

    Raises:
        GuestError: it did not get all of that; the rest is nobody's.
        MachineLostError: the machine is gone.
    """
    live = settled(machine)
    if machine.plan.hotplug is not None and machine.plan.primary.id in live:
        try:
            carry_out(machine, left_behind(live, machine.plan, ids))
        except GuestError as error:
            error.hint = f"the rest is nobody's, and there for `popcorn start`; {error.hint}"
            raise


def make_room(machine: Machine, ids: Iterable[int]) -> None:
    """Have the primary let go of what kernels need that are to start.

    Raises:
        UserError: it has too much in its memory for that.
        GuestError: it cannot.
        MachineLostError: the machine is gone.
    """
    live = settled(machine)
    if machine.plan.hotplug is not None and machine.plan.primary.id in live:
        todo = missing(live, machine.plan, ids)
        require_spare_memory(machine, todo)
        carry_out(machine, todo)


def require_spare_memory(machine: Machine, todo: Moves) -> None:
    """See that what the primary's memory holds has room in what it keeps.

    Without, Linux would look for room in vain until somebody ends that.

    Raises:
        UserError: it has not; nothing was done.
        GuestError: the primary does not answer.
        MachineLostError: the machine is gone.
    """
    given = sum(window.size for window in todo.give_memory) - sum(window.size for window in todo.take_memory)
    if given <= 0:
        return
    lines = machine.primary.get("/proc/meminfo").decode().splitlines()
    told = {line.partition(":")[0]: int(line.split()[1]) * KIB for line in lines}
    used = told["MemTotal"] - told["MemAvailable"]
    owned = sum(window.size for window in live_kernels(machine.region())[machine.plan.primary.id].memory)
    # Of all that it owns it counts a little less: not the arrays of pages.
    left = told["MemTotal"] * (owned - given) // owned
    if used > left:
        raise UserError(
            f"the primary uses {format_size(used)} of its memory, and {format_size(left)} are left when "
            f"{format_size(given)} have moved",
            hint="end some of its processes, or remove what lies in memory, as all its files do; `popcorn repartition` "
            f"leaves it more with --size {machine.plan.primary.id}=SIZE",
        )


def carry_out(machine: Machine, todo: Moves) -> None:
    """Have the primary take and give.

    Raises:
        GuestError: naming what could not be moved; what came before it was.
        MachineLostError: the machine is gone.
    """
    hotplug = machine.plan.hotplug
    if hotplug is None:
        return
    number = {cpu: index for index, cpu in enumerate(hotplug.cpus)}
    lines = [
        *own_orders("add", todo.take_memory),
        *(f"cpu online {number[cpu]}" for cpu in todo.take_cpus),
        # Memory leaves faster without them: each CPU has to be asked for the pages it keeps.
        *(f"cpu offline {number[cpu]}" for cpu in reversed(todo.give_cpus)),
        *own_orders("remove", todo.give_memory),
    ]
    if not lines:
        return
    with progress.step(f"moving {_amounts(todo)}") as step:
        heard = bytearray()

        def hear(stream: str, data: bytes) -> None:
            if stream == "stdout":
                heard.extend(data)
                step.update(f"{heard.count(b' ok')}/{len(lines)}")

        done = machine.primary.run(
            ["sh", "-c", "PATH=/sbin:$PATH exec popcorn-own"],
            stdin="".join(f"{line}\n" for line in lines).encode(),
            on_output=hear,
        )
    if done.status:
        failed = [line for line in done.stdout_text.splitlines() if _FAILED in line]
        order, _, cause = failed[-1].partition(": ")[2].partition(_FAILED) if failed else ("", "", "")
        raise GuestError(
            f"the primary could not carry out {order!r}: {cause}" if failed else f"popcorn-own: {done.stderr_text}",
            hint=f"what it said: `popcorn log {machine.plan.primary.id} --name {machine.name}`",
        )


def _amounts(todo: Moves) -> str:
    cpus = [*todo.take_cpus, *todo.give_cpus]
    parts = [f"CPU{'s' if len(cpus) > 1 else ''} {cpulist.format(cpus)}"] if cpus else []
    return " and ".join([*parts, "memory"] if todo.take_memory or todo.give_memory else parts)
