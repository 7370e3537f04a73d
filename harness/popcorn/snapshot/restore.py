# SPDX-License-Identifier: Apache-2.0
"""Going on from a snapshot, under any name."""

from __future__ import annotations

import mmap
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from popcorn import progress
from popcorn.errors import HostError, UserError
from popcorn.files import private
from popcorn.machine.arrival import DEFAULT_STALL_S
from popcorn.machine.boot import abandon
from popcorn.machine.control import ask, open_memory
from popcorn.machine.launch import Origin, launch
from popcorn.machine.machine import Machine
from popcorn.machine.memory import NodeMemory
from popcorn.machine.registry import PLAN_FILE, Record
from popcorn.plan import Plan, read_plan
from popcorn.snapshot.beats import await_beats, beats_of
from popcorn.snapshot.clock import set_time_of_day
from popcorn.snapshot.file import CorruptSnapshotError, Header, Reader
from popcorn.snapshot.inputs import Inputs, Wanted, differences, of_machine, unwanted
from popcorn.snapshot.migration import put_state
from popcorn.snapshot.pages import PAGE_BYTES, Node
from popcorn.snapshot.shelf import Kind, reading
from popcorn.snapshot.turns import resume

AUTOMATIC = "automatic"
# Two clocks that differ by less are the same to people.
_CLOCK_OFF_S = 0.02


def restore(
    snapshot: str,
    kind: Kind = "named",
    *,
    name: str,
    tied: bool = False,
    run_dir: Path | None = None,
    keep_memory: bool = False,
    wanted: Wanted | None = None,
    stall_s: float = DEFAULT_STALL_S,
) -> Machine:
    """A machine that goes on where the saved one was; until it is kept, it ends with the returned `Machine`.

    Args:
        name: of the new machine.
        wanted: what it shall agree with, beside this host.
        stall_s: give up when a kernel does not move for so long.

    Raises:
        UserError: there is no such snapshot, it does not fit here, or the name is taken.
        CorruptSnapshotError: it is damaged.
        HostError: QEMU or the host refused.
        GuestError: a kernel does not go on.
        MachineLostError: QEMU ended.
    """
    with progress.step("restoring the machine"), reading(snapshot, kind) as reader:
        files = reader.files()
        plan = _plan(snapshot, files)
        require_fitting(snapshot, reader.header, plan, wanted)
        state = reader.state()
        filled: list[Path] = []

        def fill(folder: Path) -> None:
            filled.append(folder)
            _write_files(folder, files)

        origin = Origin(
            fill,
            snapshot=snapshot if kind == "named" else AUTOMATIC,
            saved=reader.header.saved,
            load=lambda record: _load(record, reader),
        )
        try:
            machine = launch(plan, origin, name=name, accel="tcg", tied=tied, run_dir=run_dir, keep_memory=keep_memory)
            try:
                _go_on(machine, reader.header, state, stall_s)
            except BaseException:
                abandon(machine)
                raise
        except BaseException as error:
            for folder in filled:
                _forget(folder, files, whole=run_dir is None and isinstance(error, CorruptSnapshotError))
            raise
    return machine


def plan_in(snapshot: str) -> Plan:
    """The plan of a named snapshot; errors as for `restore`."""
    with reading(snapshot) as reader:
        return _plan(snapshot, reader.files())


def _plan(snapshot: str, files: Mapping[str, bytes]) -> Plan:
    return read_plan(files[PLAN_FILE].decode(), f"the plan of the snapshot {snapshot}")


def require_fitting(snapshot: str, header: Header, plan: Plan, wanted: Wanted | None) -> None:
    """Refuse a snapshot that does not agree with this host, or with what is wanted.

    Raises:
        UserError: naming all that differs.
    """
    try:
        saved = Inputs.from_json(header.inputs)
    except (TypeError, KeyError) as error:
        raise UserError(f"the snapshot {snapshot!r} is of another version of Popcorn: {error}") from error
    reasons = [*differences(saved, of_machine(plan, saved.accel, {})), *(unwanted(saved, wanted) if wanted else ())]
    if reasons:
        raise UserError(
            f"the snapshot {snapshot!r} does not fit: {'; '.join(reasons)}",
            hint="boot the machine anew with `popcorn up`, and save it again",
        )


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with open(path, "wb", opener=private) as out:
            out.write(content)


def _forget(folder: Path, files: Iterable[str], *, whole: bool) -> None:
    """What the saved machine said is not of a run that did not come to be; what QEMU said may be asked for."""
    if whole:
        shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        (folder / file).unlink(missing_ok=True)


def _load(record: Record, reader: Reader) -> None:
    memory = open_memory(record, writable=True)
    try:
        reader.memory([_pages_of(node) for node in memory.nodes])
    finally:
        memory.close()


def _pages_of(node: NodeMemory) -> Node:
    """The memory of a node; it is unmapped with the array."""
    mapped = mmap.mmap(node.fd, node.size, prot=mmap.PROT_READ)
    return Node(node.fd, np.frombuffer(mapped, dtype=np.uint8).reshape(-1, PAGE_BYTES))


def _go_on(machine: Machine, header: Header, state: bytes, stall_s: float) -> None:
    record = machine.record
    memory = open_memory(record, writable=True)
    try:
        with machine.qmp() as qmp:
            put_state(machine, qmp, state)
            trouble = ask(record, "follow", times=header.times, now=header.seen_at)["trouble"]
            if trouble:
                raise HostError(f"the machine {machine.name!r} is not recorded: {trouble}")
            guess = time.time()
            set_time_of_day(record, memory, tsc=header.tsc, wall_s=guess)
            beats = beats_of(machine, header.beating)
            resumed = resume(machine, qmp)
        if abs(resumed - guess) > _CLOCK_OFF_S:
            set_time_of_day(record, memory, tsc=header.tsc, wall_s=resumed)
            beats = beats_of(machine, header.beating)
    finally:
        memory.close()
    await_beats(machine, beats, stall_s)
