# SPDX-License-Identifier: Apache-2.0
"""A machine that is up is cut anew, and only what changes moves (paper, figure 5.b).

In each step the primary lets go of what nobody has then, or kernels end, or the primary takes what nobody has, or
kernels start on what nobody has. So whatever ends this between two steps leaves a machine on which it can go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from popcorn.errors import GuestError, MachineLostError, PopcornError, UserError
from popcorn.guest import life
from popcorn.guest.owning import give, gives_first, settled, take
from popcorn.image.initrd import overlay
from popcorn.machine.arrival import DEFAULT_STALL_S, await_kernels
from popcorn.machine.booted import note_planned
from popcorn.machine.changing import changing
from popcorn.machine.machine import Machine
from popcorn.machine.orders import LAUNCH, ORDERS, USUAL, new_launch_files
from popcorn.machine.owned import live_kernels
from popcorn.plan.change import require_reachable
from popcorn.plan.model import Plan
from popcorn.plan.moves import Moves, moves

# From an archive beside them, so that no orders are ever half there.
_PLACE = f"""
set -e
new=$(mktemp -d /run/popcorn-orders.XXXXXX)
trap 'rm -rf "$new"' EXIT
cd "$new"
cpio -id 2>/dev/null
mkdir -p ".{ORDERS}"
old={ORDERS}.old
rm -rf "$old"
[ ! -e {ORDERS} ] || mv {ORDERS} "$old"
mv ".{ORDERS}" {ORDERS}
mv ".{LAUNCH}" {LAUNCH}
rm -rf "$old"
"""


def survey(machine: Machine, target: Plan) -> Moves:
    """What has to move until a machine is cut as a plan says.

    Args:
        target: valid in itself.

    Raises:
        UserError: something cannot be moved, or a kernel that has to end cannot be asked to.
        GuestError: the primary does not answer.
        MachineLostError: the machine is gone.
    """
    current = machine.plan
    require_reachable(current, target)
    live = settled(machine)
    if current.primary.id not in live:
        raise UserError(
            "the primary does not run, and nobody else can move what it has",
            hint=f"`popcorn ps --name {machine.name}` tells how it is",
        )
    planned = {partition.id: partition.cmdline for partition in target.partitions}
    again = [one.id for one in current.secondaries if planned.get(one.id, one.cmdline) != one.cmdline]
    todo = moves(live, target, again=again)
    _require_stoppable(machine, todo)
    _gives_first(machine, todo)
    return todo


def _require_stoppable(machine: Machine, todo: Moves) -> None:
    ids = {partition.id for partition in machine.plan.partitions}
    for kernel in machine.ps() if todo.stop else ():
        if kernel.id not in todo.stop:
            continue
        if kernel.id not in ids:
            raise UserError(
                f"kernel {kernel.id} is not in the machine's plan: somebody started it by hand, and it has what has "
                "to move",
                hint="end it as it was started, from inside",
            )
        if kernel.health in ("hung", "silent"):
            raise UserError(
                f"kernel {kernel.id} has to end, and is {kernel.health}: it would not do as it is asked",
                hint=f"`popcorn kill {kernel.id} --name {machine.name}` asks nobody",
            )


def repartition(machine: Machine, target: Plan, *, wait: bool = True, stall_s: float = DEFAULT_STALL_S) -> Moves:
    """Cut a machine that is up as a plan says; returns what was moved.

    Args:
        target: valid in itself.
        wait: whether to wait for the userspace of kernels that are started.
        stall_s: give up when nothing of them moved for so long.

    Raises:
        UserError: something cannot be moved, and nothing was; or somebody else does not come to an end with that.
        GuestError: a kernel did not do its part; the hint tells what is left, and the same call goes on there.
        MachineLostError: the machine is gone.
    """
    with changing(machine, f"repartition --policy '{target.policy}'"):
        todo = survey(machine, target)
        with _telling_what_is_left(machine, target):
            _move(machine, target, todo)
    if todo.start and wait:
        with _telling_what_is_left(machine, target):
            await_kernels(machine, todo.start, stall_s=stall_s, launched=True)
    return todo


@contextmanager
def _telling_what_is_left(machine: Machine, target: Plan) -> Iterator[None]:
    try:
        yield
    except MachineLostError:
        raise
    except PopcornError as error:
        error.hint = "; ".join(filter(None, [error.hint, _left(machine, target)]))
        raise


def _move(machine: Machine, target: Plan, todo: Moves) -> None:
    # What can fail, without harm, before what cannot be undone.
    first = _gives_first(machine, todo)
    if first:
        give(machine, todo)
    if todo.stop:
        life.end(machine, todo.stop)
    if left := take(machine, todo):
        raise GuestError(f"the memory {', '.join(map(str, left))} does not go with what the primary has by now")
    if not first:
        give(machine, todo)
    # What has no place in the new plan has ended, and what is free is as it says.
    note_planned(machine.run_dir, [partition.id for partition in target.partitions])
    usual = machine.primary.get(USUAL)
    archive = overlay(new_launch_files(target, usual))
    placed = machine.primary.run(["sh", "-c", _PLACE], stdin=archive)
    if placed.status:
        raise GuestError(f"the primary does not take its new orders: {placed.stderr_text.strip()}")
    machine.replan(target)
    if todo.start:
        life.launch(machine, todo.start)


def _gives_first(machine: Machine, todo: Moves) -> bool:
    return machine.plan.hotplug is not None and gives_first(machine, live_kernels(machine.region()), todo)


def _left(machine: Machine, target: Plan) -> str:
    """What a machine still needs, for whoever has to decide how to go on."""
    try:
        todo = moves(live_kernels(machine.region()), target)
    except (PopcornError, KeyError):
        return ""
    left = "; ".join(todo.lines())
    return f"what runs goes on. Left to do: {left}. The same command goes on there, one with another policy elsewhere"
