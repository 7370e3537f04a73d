# SPDX-License-Identifier: Apache-2.0
"""Starting a QEMU under a supervisor of its own, to boot or to go on from a saved state."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.disk import full_disk_named
from popcorn.dirs import runs_dir
from popcorn.errors import HostError
from popcorn.files import private
from popcorn.machine import qemu, registry
from popcorn.machine.limits import require_room_to_record
from popcorn.machine.machine import Machine
from popcorn.machine.supervisor import Launch, node_memory_path
from popcorn.plan.model import Plan

HEADER_FILE = "popcorn.h"
_QEMU_ANSWER_S = 30.0
_LOOK_S = 0.01


@dataclass(frozen=True)
class Origin:
    """What a machine begins with."""

    fill: Callable[[Path], None]
    """Writes into the run's folder what is known of the machine: its plan, its kernels, their ``popcorn.h``."""
    kernel: Path | None = None
    """The bzImage that it boots; None if it goes on from a snapshot."""
    write_initrd: Callable[[Path], None] | None = None
    shares_region: bool = True
    """Whether its kernels have a shared region."""
    snapshot: str = ""
    """What it goes on from, as the user knows it."""
    saved: float = 0.0
    """When that was taken, in Unix time."""
    load: Callable[[registry.Record], None] | None = None
    """Fills the machine's memory, while QEMU gets ready."""


def launch(
    plan: Plan,
    origin: Origin,
    *,
    name: str,
    accel: qemu.Accel,
    tied: bool,
    run_dir: Path | None,
    qemu_options: Sequence[str] = (),
    keep_memory: bool = False,
) -> Machine:
    """Start QEMU under a supervisor; the machine ends when the returned `Machine` is closed, unless it is kept.

    One that goes on from a snapshot stands still, without the state of its CPUs, and is not recorded yet.

    Raises:
        UserError: the name is taken, or the disk is full.
        HostError: QEMU refused to start.
        PopcornError: what loading the memory raises.
    """
    require_room_to_record(run_dir)
    claim = registry.claim(name)
    ours: Path | None = None
    try:
        folder = run_dir.absolute() if run_dir is not None else new_run_dir(name)
        ours = folder if run_dir is None or not folder.exists() else None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with full_disk_named(folder, "recording a run", variable="POPCORN_RUNS"):
            origin.fill(folder)
        initrd = None
        if origin.write_initrd is not None:
            initrd = claim.directory / registry.INITRD
            with full_disk_named(claim.directory, "writing the initrd", variable="XDG_RUNTIME_DIR"):
                origin.write_initrd(initrd)
        spec = machine_spec(
            plan, name=name, kernel=origin.kernel, initrd=initrd, accel=accel, run_dir=folder, extra=qemu_options
        )
        region = origin.shares_region
        record = registry.Record(
            name=name,
            status="starting",
            run_dir=str(folder),
            tied=tied,
            accel=accel,
            machine=plan.machine.name,
            policy=plan.policy,
            kernels=tuple(partition.id for partition in plan.partitions),
            header=str(folder / HEADER_FILE) if region else "",
            region_start=plan.region.start if region else 0,
            region_size=plan.region.size if region else 0,
            hole_start=plan.machine.hole.start,
            keep_memory=keep_memory,
            qemu_options=tuple(qemu_options),
            restored_from=origin.snapshot,
            saved=origin.saved,
        )
        order = Launch(tuple(qemu.argv(spec)), tuple(node.memory_bytes for node in spec.nodes), record)
        lifeline = _spawn_supervisor(order, claim)
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
    try:
        if origin.load is not None:
            _load(origin.load, name, lifeline)
        return Machine(_started(record, lifeline), lifeline)
    except BaseException:
        lifeline.close()
        await_unlocked(name)
        raise


def machine_spec(
    plan: Plan,
    *,
    name: str,
    kernel: Path | None,
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


def _spawn_supervisor(order: Launch, claim: registry.Claim) -> socket.socket:
    launch_file = claim.directory / "launch.json"
    launch_file.write_text(order.to_json(), encoding="utf-8")
    ours, theirs = socket.socketpair()
    with theirs, open(Path(order.record.run_dir, "supervisor.log"), "ab", opener=private) as log:
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


def _supervisor_environment(ours: Mapping[str, str]) -> dict[str, str]:
    package_parent = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [package_parent, ours.get("PYTHONPATH", "")]))
    return {**ours, "PYTHONPATH": search}


def _load(load: Callable[[registry.Record], None], name: str, lifeline: socket.socket) -> None:
    """Fill the memory as soon as the supervisor has made it; if it cannot, it says why on the lifeline."""
    deadline = time.monotonic() + _QEMU_ANSWER_S
    while (record := registry.read_record(name)) is None or not record.nodes:
        if select.select([lifeline], [], [], _LOOK_S)[0] or time.monotonic() > deadline:
            return
    load(record)


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
        await_unlocked(record.name)
        registry.forget(record.name)
        raise HostError(
            f"QEMU did not start: {message['reason']}",
            hint="; ".join(filter(None, [message.get("hint"), f"see qemu.log and supervisor.log in {record.run_dir}"])),
        )
    return registry.find(record.name)


def await_unlocked(name: str) -> None:
    """Wait until a machine that was told to end is gone."""
    deadline = time.monotonic() + 5
    while registry.is_live(name) and time.monotonic() < deadline:
        time.sleep(0.02)
