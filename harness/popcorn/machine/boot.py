# SPDX-License-Identifier: Apache-2.0
"""From a plan to a running machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from popcorn.build.artifacts import KernelArtifact
from popcorn.errors import HostError, MachineLostError, PopcornError, UserError
from popcorn.machine import qemu, registry
from popcorn.machine.arrival import DEFAULT_STALL_S, await_kernels, await_sshd
from popcorn.machine.booted import write_booted
from popcorn.machine.launch import HEADER_FILE, Origin, await_unlocked, launch
from popcorn.machine.machine import Machine
from popcorn.machine.owned import require_memory
from popcorn.machine.registry import PLAN_FILE
from popcorn.plan.model import Plan

AccelChoice = Literal["auto", "kvm", "tcg"]
ACCEL_VARIABLE = "POPCORN_ACCEL"
"""Says which of them is meant by auto."""


@dataclass(frozen=True)
class BootFiles:
    """What QEMU boots, and the ``popcorn.h`` that describes the shared region (None for a kernel without one)."""

    kernel: Path
    """A bzImage."""
    header: Path | None
    write_initrd: Callable[[Path], None] | None = None
    """Writes this boot's initrd into a file."""
    kernels: Mapping[int, KernelArtifact] = field(default_factory=dict)
    """What each partition runs, by its id, as far as it was built here."""
    usual: KernelArtifact | None = None
    """What kernels run that are started beyond the plan."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Digests of what the initrd is put together from, by what a person calls it; empty where that is not known."""


def up(
    plan: Plan,
    files: BootFiles,
    *,
    name: str = registry.DEFAULT_NAME,
    accel: AccelChoice = "auto",
    tied: bool = False,
    run_dir: Path | None = None,
    wait: bool = True,
    keep_failed: bool = False,
    stall_s: float = DEFAULT_STALL_S,
    qemu_options: Sequence[str] = (),
    keep_memory: bool = False,
    when_up: Callable[[Machine], None] | None = None,
) -> Machine:
    """Boot a machine and wait until all its kernels have their userspace.

    Until this returns, the machine ends with the calling process.

    Args:
        tied: the machine never outlives the returned `Machine` or this process.
        run_dir: where to record; a new folder if not given.
        wait: whether to wait for the kernels.
        keep_failed: leave the machine up when a kernel does not come up.
        stall_s: give up when nothing moved for so long.
        qemu_options: further words for QEMU's command line.
        keep_memory: save the machine's memory in the run's folder when QEMU ends by itself.
        when_up: called when all kernels are up, before the machine is kept.

    Raises:
        UserError: the name is taken, a file is missing, there is too little room, or QEMU cannot be told this.
        HostError: QEMU is missing, too old or refused to start.
        GuestError: a kernel got stuck or died.
        MachineLostError: QEMU ended.
    """
    machine = start(
        plan,
        files,
        name=name,
        accel=accel,
        tied=tied,
        run_dir=run_dir,
        qemu_options=qemu_options,
        keep_memory=keep_memory,
    )
    try:
        if wait and files.header is not None:
            await_kernels(machine, stall_s=stall_s)
            require_memory(machine)
        elif wait:
            await_sshd(machine, stall_s=stall_s)
        if wait and when_up is not None:
            when_up(machine)
        if not tied:
            machine.keep()
    except PopcornError as error:
        if keep_failed and not isinstance(error, MachineLostError) and machine.alive():
            machine.keep()
            error.hint = "; ".join(filter(None, [error.hint, f"the machine was left up as {name!r}"]))
        else:
            abandon(machine)
        raise
    except BaseException:
        abandon(machine)
        raise
    return machine


def start(
    plan: Plan,
    files: BootFiles,
    *,
    name: str = registry.DEFAULT_NAME,
    accel: AccelChoice = "auto",
    tied: bool = False,
    run_dir: Path | None = None,
    qemu_options: Sequence[str] = (),
    keep_memory: bool = False,
) -> Machine:
    """Start QEMU under a supervisor; the machine ends when the returned `Machine` is closed, unless it is kept.

    Arguments and errors as for `up`.
    """
    if not files.kernel.is_file():
        raise UserError(f"there is no kernel {files.kernel}", hint="build it again: `popcorn build`")
    qemu.host_version()

    def fill(folder: Path) -> None:
        (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
        write_booted(folder, files.kernels, files.usual)
        if files.header is not None:
            shutil.copyfile(files.header, folder / HEADER_FILE)

    return launch(
        plan,
        Origin(fill, kernel=files.kernel, write_initrd=files.write_initrd, shares_region=files.header is not None),
        name=name,
        accel=choose_accel(accel, files.kernel),
        tied=tied,
        run_dir=run_dir,
        qemu_options=qemu_options,
        keep_memory=keep_memory,
    )


def choose_accel(choice: AccelChoice, kernel: Path) -> qemu.Accel:
    """What a machine runs on.

    Args:
        kernel: a bzImage to try KVM with.

    Raises:
        HostError: KVM was asked for and does not work.
        UserError: the environment names what there is not.
    """
    if choice == "auto":
        choice = _accel_named()
    if choice == "tcg":
        return "tcg"
    from popcorn.machine import kvm

    verdict = kvm.probe(kernel)
    if verdict.usable:
        return "kvm"
    if choice == "kvm":
        raise HostError(f"KVM cannot be used on this host: {verdict.reason}", hint="use --accel tcg (or auto)")
    return "tcg"


def _accel_named() -> AccelChoice:
    """What the environment says in place of auto: of many kernels, one shows whether KVM works."""
    named = os.environ.get(ACCEL_VARIABLE) or "auto"
    if named not in ("auto", "kvm", "tcg"):
        raise UserError(f"${ACCEL_VARIABLE} is {named!r}", hint="expected auto, kvm or tcg")
    return cast(AccelChoice, named)


def abandon(machine: Machine) -> None:
    """Let go of a machine that was not kept, and wait until it is gone."""
    machine.close()
    await_unlocked(machine.name)
