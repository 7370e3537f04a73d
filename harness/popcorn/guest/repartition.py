# SPDX-License-Identifier: Apache-2.0
"""A machine that is up is cut anew, and only what changes moves (paper, figure 5.b).

In each step kernels end, or the primary takes what nobody has, or lets go of what nobody has then, or kernels start on
what nobody has. So whatever ends this between two steps leaves a machine on which it can go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from popcorn.errors import GuestError, MachineLostError, PopcornError, UserError
from popcorn.guest import life
from popcorn.guest.owning import carry_out, require_spare_memory, settled
from popcorn.image.initrd import overlay
from popcorn.machine.arrival import DEFAULT_STALL_S
from popcorn.machine.booted import note_planned
from popcorn.machine.machine import Machine
from popcorn.machine.orders import LAUNCH, ORDERS, USUAL, new_launch_files
from popcorn.machine.owned import live_kernels
from popcorn.plan.change import require_reachable
from popcorn.plan.model import Plan
from popcorn.plan.moves import Moves, moves

_LOCK = "repartition.lock"
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
    require_spare_memory(machine, todo)
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
        UserError: something cannot be moved, and nothing was; or somebody else is moving things.
        GuestError: a kernel did not do its part; the hint tells what is left, and the same call goes on there.
        MachineLostError: the machine is gone.
    """
    with _alone(machine):
        todo = survey(machine, target)
        try:
            _move(machine, target, todo, wait, stall_s)
        except MachineLostError:
            raise
        except PopcornError as error:
            error.hint = "; ".join(filter(None, [error.hint, _left(machine, target)]))
            raise
    return todo


@contextmanager
def _alone(machine: Machine) -> Iterator[None]:
    lock = FileLock(machine.record.directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"the machine {machine.name!r} is being cut anew by another command", hint="wait until that has ended"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _move(machine: Machine, target: Plan, todo: Moves, wait: bool, stall_s: float) -> None:
    if todo.stop:
        life.stop(machine, todo.stop, give_back=False)
    carry_out(machine, todo)
    # What has no place in the new plan has ended, and what is free is as it says.
    note_planned(machine.run_dir, [partition.id for partition in target.partitions])
    usual = machine.primary.get(USUAL)
    archive = overlay(new_launch_files(target, usual))
    placed = machine.primary.run(["sh", "-c", _PLACE], stdin=archive)
    if placed.status:
        raise GuestError(f"the primary does not take its new orders: {placed.stderr_text.strip()}")
    machine.replan(target)
    if todo.start:
        life.start(machine, todo.start, wait=wait, stall_s=stall_s)


def _left(machine: Machine, target: Plan) -> str:
    """What a machine still needs, for whoever has to decide how to go on."""
    try:
        todo = moves(live_kernels(machine.region()), target)
    except (PopcornError, KeyError):
        return ""
    left = "; ".join(todo.lines())
    return f"what runs goes on. Left to do: {left}. The same command goes on there, one with another policy elsewhere"
