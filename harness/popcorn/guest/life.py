# SPDX-License-Identifier: Apache-2.0
"""Kernels of a running machine come and go: started, stopped in good order, or by force."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from popcorn import cpulist, progress
from popcorn.errors import GuestError, UserError
from popcorn.guest.launching import Change, equip, load_and_start, named
from popcorn.guest.owning import make_room, take_back
from popcorn.guest.run import run_in_several
from popcorn.machine.arrival import DEFAULT_STALL_S, await_kernels
from popcorn.machine.booted import note_started
from popcorn.machine.changing import changing
from popcorn.machine.layout import Slot
from popcorn.machine.machine import Machine

_LOOK_S = 0.05
# By the primary's heart, which beats once in a second of the machine's time, however slow the host is.
_PATIENCE_BEATS = 30
# The command ends before its kernel does, so that it is answered: a connection that breaks could mean the end of the
# machine, for which `Primary.lost` waits.
_POWER_OFF = ("sh", "-c", "{ sleep 0.1; busybox poweroff; } </dev/null >/dev/null 2>&1 &")


def start(
    machine: Machine,
    ids: Sequence[int],
    *,
    by: int | None = None,
    change: Change | None = None,
    wait: bool = True,
    stall_s: float = DEFAULT_STALL_S,
) -> None:
    """Load and start kernels that do not run, and wait until their userspace is ready.

    Args:
        by: the kernel that starts them; the primary if not given.
        stall_s: give up when nothing of them moved for so long.

    Raises:
        UserError: there is no such kernel, or it runs.
        GuestError: it was refused, or did not come up.
        MachineLostError: the machine is gone.
    """
    with changing(machine, f"start {cpulist.format(ids)}"):
        launch(machine, ids, by=by, change=change)
    if wait:
        await_kernels(machine, ids, stall_s=stall_s, launched=True)


def launch(machine: Machine, ids: Sequence[int], *, by: int | None = None, change: Change | None = None) -> None:
    """The same for who is `changing` the machine, without any waiting."""
    loader = machine.plan.primary.id if by is None else by
    _require_running(machine, loader)
    for id in ids:
        slot = _secondary(machine, id)
        if slot.state not in ("none", "loaded") and not slot.ended:
            raise UserError(
                f"kernel {id} is {slot.state}",
                hint=f"`popcorn restart {id} --name {machine.name}` ends it first",
            )
    make_room(machine, ids)
    note_started(machine.run_dir, ids, change.vmlinux if change is not None else None)
    with progress.step(f"starting {named(ids)}"):
        load_and_start(machine, loader, ids, change or Change())


def stop(machine: Machine, ids: Iterable[int]) -> None:
    """Have kernels end in good order: their processes first; those that ended already are left alone.

    A primary that was booted by the policy hotplug takes what they had.

    Raises:
        UserError: there is no such kernel, or it is the primary.
        GuestError: one did not end, or cannot be reached; or the primary did not get what they had.
        MachineLostError: the machine is gone.
    """
    ids = list(ids)
    with changing(machine, f"stop {cpulist.format(ids)}"):
        end(machine, ids)
        take_back(machine, ids)


def end(machine: Machine, ids: Iterable[int]) -> None:
    """The same for who is `changing` the machine; what they had is nobody's then."""
    wanted = [id for id in ids if not _secondary(machine, id).ended and _loaded(machine, id)]
    with progress.step(f"stopping {named(wanted)}"):
        for _ in run_in_several(machine.connections, _POWER_OFF, wanted, timeout_s=_PATIENCE_BEATS):
            # Whatever is answered: whether it has ended is what counts.
            pass
        _await_ended(machine, wanted)


def kill(machine: Machine, ids: Iterable[int], *, by: int | None = None) -> None:
    """Take the CPUs of kernels back, whatever they do; those that ended already are left alone.

    Nobody is waited for: others may be changing the machine because one of them hangs. Only before a primary takes
    what they had.

    Args:
        by: the kernel that does it; the primary if not given.

    Raises:
        UserError: there is no such kernel, or it is the primary.
        GuestError: it was refused; or the primary did not get what they had.
        MachineLostError: the machine is gone.
    """
    ids = list(ids)
    _kill(machine, ids, by)
    with changing(machine, f"kill {cpulist.format(ids)}"):
        take_back(machine, ids)


def _kill(machine: Machine, ids: Sequence[int], by: int | None) -> None:
    loader = machine.plan.primary.id if by is None else by
    _require_running(machine, loader)
    wanted = [id for id in ids if not _secondary(machine, id).ended and _loaded(machine, id)]
    path = equip(machine, loader)
    for id in wanted:
        done = machine.ssh(loader).run(["sh", "-c", f"{path} kexec --popcorn --stop --boot={id}"])
        # It may have ended by itself meanwhile.
        if done.status and not machine.region().slot(id).ended:
            raise GuestError(f"kernel {id} could not be stopped: {done.stderr_text.strip()}")


def restart(
    machine: Machine,
    ids: Sequence[int],
    *,
    force: bool = False,
    by: int | None = None,
    change: Change | None = None,
    wait: bool = True,
) -> None:
    """End kernels and start them again; arguments and errors as for `start`, `stop` and, with force, `kill`."""
    if force:
        _kill(machine, ids, by)
    with changing(machine, f"restart {cpulist.format(ids)}"):
        if not force:
            end(machine, ids)
        launch(machine, ids, by=by, change=change)
    if wait:
        await_kernels(machine, ids, launched=True)


def _secondary(machine: Machine, id: int) -> Slot:
    if machine.plan.partition(id).is_primary:
        raise UserError(
            f"kernel {id} is the primary, which the machine cannot do without",
            hint=f"`popcorn down --name {machine.name}` ends the machine",
        )
    return machine.region().slot(id)


def _loaded(machine: Machine, id: int) -> bool:
    return machine.region().slot(id).state not in ("none", "loaded")


def _require_running(machine: Machine, id: int) -> None:
    machine.plan.partition(id)
    slot = machine.region().slot(id)
    if slot.ended or slot.state != "running":
        raise UserError(f"kernel {id} cannot start or stop another: it is {slot.state}")


def _await_ended(machine: Machine, ids: Sequence[int]) -> None:
    region = machine.region()
    primary = machine.plan.primary.id
    began = region.slot(primary).heartbeat
    while pending := [id for id in ids if not region.slot(id).ended]:
        if not machine.alive():
            raise machine.lost()
        if region.slot(primary).heartbeat - began > _PATIENCE_BEATS:
            raise GuestError(
                f"{named(pending)} did not end in {_PATIENCE_BEATS} s of the machine's time",
                hint=f"`popcorn kill {cpulist.format(pending)} --name {machine.name}` asks nobody",
            )
        time.sleep(_LOOK_S)
