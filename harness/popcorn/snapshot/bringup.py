# SPDX-License-Identifier: Apache-2.0
"""Bringing a machine up: from the snapshot that was taken when an equal one had booted, else by a boot, which is saved.

A snapshot is of the freshly booted machine and found by all that went into it (`inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from popcorn import progress
from popcorn.errors import DiskFullError, GuestError, HostError, HostMemoryError, PopcornError
from popcorn.machine import registry
from popcorn.machine.arrival import DEFAULT_STALL_S
from popcorn.machine.boot import AccelChoice, BootFiles, abandon, choose_accel
from popcorn.machine.boot import up as boot
from popcorn.machine.machine import Machine
from popcorn.plan.model import Plan
from popcorn.snapshot import inputs as made_of
from popcorn.snapshot.file import CorruptSnapshotError
from popcorn.snapshot.inputs import Inputs, Wanted
from popcorn.snapshot.restore import plan_in, restore
from popcorn.snapshot.save import save
from popcorn.snapshot.shelf import MissingSnapshotError, evict, limit_bytes, path_of, remove

__all__ = ["from_snapshot", "plan_in", "up"]


def up(
    plan: Plan,
    files: BootFiles,
    *,
    name: str = registry.DEFAULT_NAME,
    accel: AccelChoice = "auto",
    tied: bool = False,
    run_dir: Path | None = None,
    keep_failed: bool = False,
    stall_s: float = DEFAULT_STALL_S,
    qemu_options: Sequence[str] = (),
    keep_memory: bool = False,
) -> Machine:
    """A machine all of whose kernels are up. Arguments and errors as for `popcorn.machine.boot.up`."""
    chosen = choose_accel(accel, files.kernel)
    inputs = None
    # Of other machines it is not tried.
    if chosen == "tcg" and not qemu_options and limit_bytes():
        inputs = made_of.of_boot(plan, files, chosen)
    if inputs is not None:
        machine = _restored(inputs, name=name, tied=tied, run_dir=run_dir, keep_memory=keep_memory, stall_s=stall_s)
        if machine is not None:
            return machine
    return boot(
        plan,
        files,
        name=name,
        accel=chosen,
        tied=tied,
        run_dir=run_dir,
        keep_failed=keep_failed,
        stall_s=stall_s,
        qemu_options=qemu_options,
        keep_memory=keep_memory,
        when_up=_saver(inputs) if inputs is not None else None,
    )


def from_snapshot(
    snapshot: str,
    *,
    name: str = registry.DEFAULT_NAME,
    run_dir: Path | None = None,
    keep_memory: bool = False,
    wanted: Wanted | None = None,
    stall_s: float = DEFAULT_STALL_S,
) -> Machine:
    """A machine that goes on from a named snapshot, up until `down`. Arguments and errors as for `restore`."""
    return _kept(restore(snapshot, name=name, run_dir=run_dir, keep_memory=keep_memory, wanted=wanted, stall_s=stall_s))


def _restored(
    inputs: Inputs, *, name: str, tied: bool, run_dir: Path | None, keep_memory: bool, stall_s: float
) -> Machine | None:
    """The machine from its automatic snapshot; None if there is none, or it is of no use."""
    key = inputs.key
    if not path_of(key, "automatic").exists():
        return None
    try:
        machine = restore(
            key, "automatic", name=name, tied=tied, run_dir=run_dir, keep_memory=keep_memory, stall_s=stall_s
        )
    except MissingSnapshotError:
        return None
    except (DiskFullError, HostMemoryError):
        # The snapshot is as good as it was, and a boot wants as much.
        raise
    except (CorruptSnapshotError, GuestError, HostError) as error:
        progress.note(f"the machine is booted, as its snapshot is of no use: {error}")
        try:
            remove(key, "automatic")
        except PopcornError as still:
            progress.note(f"it could not be removed: {still}")
        return None
    return machine if tied else _kept(machine)


def _kept(machine: Machine) -> Machine:
    try:
        machine.keep()
    except BaseException:
        abandon(machine)
        raise
    return machine


def _saver(inputs: Inputs) -> Callable[[Machine], None]:
    def when_up(machine: Machine) -> None:
        try:
            with progress.step("saving the machine for the next `up`"):
                save(machine, inputs.key, "automatic", inputs)
                evict(limit_bytes())
        except (PopcornError, OSError) as error:
            if not machine.alive():
                raise
            progress.note(f"the machine was not saved for the next `up`: {error}")

    return when_up
