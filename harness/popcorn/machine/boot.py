# SPDX-License-Identifier: Apache-2.0
"""From a plan to a running machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from popcorn.build.artifacts import KernelArtifact
from popcorn.build.disk import full_disk_named
from popcorn.dirs import runs_dir
from popcorn.errors import HostError, MachineLostError, PopcornError, UserError
from popcorn.machine import qemu, registry
from popcorn.machine.arrival import DEFAULT_STALL_S, await_kernels, await_sshd
from popcorn.machine.booted import write_booted
from popcorn.machine.limits import require_room_to_record
from popcorn.machine.machine import PLAN_FILE, Machine
from popcorn.machine.supervisor import Launch, node_memory_path
from popcorn.plan.model import Plan

_QEMU_ANSWER_S = 30.0

AccelChoice = Literal["auto", "kvm", "tcg"]


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
        elif wait:
            await_sshd(machine, stall_s=stall_s)
        if not tied:
            machine.keep()
    except PopcornError as error:
        if keep_failed and not isinstance(error, MachineLostError) and machine.alive():
            machine.keep()
            error.hint = "; ".join(filter(None, [error.hint, f"the machine was left up as {name!r}"]))
        else:
            _abandon(machine)
        raise
    except BaseException:
        _abandon(machine)
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
    require_room_to_record(run_dir)
    chosen = _choose_accel(accel, files)
    claim = registry.claim(name)
    ours: Path | None = None
    try:
        folder = run_dir.absolute() if run_dir is not None else new_run_dir(name)
        ours = folder if run_dir is None or not folder.exists() else None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")
        write_booted(folder, files.kernels)
        if files.header is not None:
            shutil.copyfile(files.header, folder / "popcorn.h")
        initrd = None
        if files.write_initrd is not None:
            initrd = claim.directory / registry.INITRD
            with full_disk_named(claim.directory, "writing the initrd", variable="XDG_RUNTIME_DIR"):
                files.write_initrd(initrd)
        spec = machine_spec(
            plan, name=name, kernel=files.kernel, initrd=initrd, accel=chosen, run_dir=folder, extra=qemu_options
        )
        record = registry.Record(
            name=name,
            status="starting",
            run_dir=str(folder),
            tied=tied,
            accel=chosen,
            machine=plan.machine.name,
            policy=plan.policy,
            kernels=tuple(partition.id for partition in plan.partitions),
            header=str(folder / "popcorn.h") if files.header is not None else "",
            region_start=plan.region.start if files.header is not None else 0,
            region_size=plan.region.size if files.header is not None else 0,
            hole_start=plan.machine.hole.start,
            keep_memory=keep_memory,
        )
        launch = Launch(tuple(qemu.argv(spec)), tuple(node.memory_bytes for node in spec.nodes), record)
        lifeline = _spawn_supervisor(launch, claim)
        registry.remember_run(name, folder)
    except BaseException:
        registry.discard(name)
        # QEMU was not started: nothing in it tells anybody anything.
        if ours is not None:
            shutil.rmtree(ours, ignore_errors=True)
        raise
    finally:
        # The supervisor holds it now.
        os.close(claim.lock)
    return Machine(_started(record, lifeline), lifeline)


def machine_spec(
    plan: Plan,
    *,
    name: str,
    kernel: Path,
    initrd: Path | None,
    accel: qemu.Accel,
    run_dir: Path,
    extra: Sequence[str] = (),
) -> qemu.MachineSpec:
    """The emulated machine that a plan is for."""
    machine = plan.machine
    return qemu.MachineSpec(
        name=name,
        sockets=machine.sockets,
        dies=machine.dies,
        cores=machine.cores,
        threads=machine.threads,
        nodes=tuple(
            qemu.Node(node.cpus, node.memory, node_memory_path(number)) for number, node in enumerate(machine.nodes)
        ),
        kernel=kernel,
        initrd=initrd,
        cmdline=plan.primary.cmdline,
        accel=accel,
        serial_log=run_dir / "serial.log",
        extra=tuple(extra),
    )


def new_run_dir(name: str) -> Path:
    """A folder for one run, named after the time and the machine."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        path = runs_dir() / (f"{stamp}-{name}" + (f"-{attempt}" if attempt else ""))
        try:
            path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            continue
        return path
    raise HostError(f"{runs_dir()} has a hundred runs of this second already")


def _choose_accel(choice: AccelChoice, files: BootFiles) -> qemu.Accel:
    if choice == "tcg":
        return "tcg"
    from popcorn.machine import kvm

    verdict = kvm.probe(files.kernel)
    if verdict.usable:
        return "kvm"
    if choice == "kvm":
        raise HostError(f"KVM cannot be used on this host: {verdict.reason}", hint="use --accel tcg (or auto)")
    return "tcg"


def _spawn_supervisor(launch: Launch, claim: registry.Claim) -> socket.socket:
    launch_file = claim.directory / "launch.json"
    launch_file.write_text(launch.to_json(), encoding="utf-8")
    ours, theirs = socket.socketpair()
    with theirs, open(Path(launch.record.run_dir, "supervisor.log"), "ab", opener=_private) as log:
        subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "popcorn.machine.supervisor",
                str(launch_file),
                str(claim.lock),
                str(theirs.fileno()),
            ],
            cwd=claim.directory,
            env=_supervisor_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[claim.lock, theirs.fileno()],
            start_new_session=True,
        )
    return ours


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _supervisor_environment(ours: Mapping[str, str]) -> dict[str, str]:
    package_parent = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [package_parent, ours.get("PYTHONPATH", "")]))
    return {**ours, "PYTHONPATH": search}


def _started(record: registry.Record, lifeline: socket.socket) -> registry.Record:
    """Wait until QEMU answers its supervisor."""
    lifeline.settimeout(_QEMU_ANSWER_S)
    try:
        with lifeline.makefile("r", encoding="utf-8") as messages:
            line = messages.readline()
    except TimeoutError:
        lifeline.close()
        raise HostError(f"QEMU did not answer within {_QEMU_ANSWER_S:g} s; see {record.run_dir}/qemu.log") from None
    message = json.loads(line) if line else {"event": "failed", "reason": "its supervisor died"}
    lifeline.settimeout(None)
    if message["event"] != "up":
        lifeline.close()
        _await_unlocked(record.name)
        registry.forget(record.name)
        raise HostError(
            f"QEMU did not start: {message['reason']}",
            hint="; ".join(filter(None, [message.get("hint"), f"see qemu.log and supervisor.log in {record.run_dir}"])),
        )
    return registry.find(record.name)


def _abandon(machine: Machine) -> None:
    machine.close()
    _await_unlocked(machine.name)


def _await_unlocked(name: str) -> None:
    deadline = time.monotonic() + 5
    while registry.is_live(name) and time.monotonic() < deadline:
        time.sleep(0.02)
