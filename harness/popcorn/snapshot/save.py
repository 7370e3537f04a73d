# SPDX-License-Identifier: Apache-2.0
"""Saving a machine that is up. It stands still meanwhile, and goes on afterwards whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from popcorn.errors import HostError, UserError
from popcorn.machine.arrival import await_tsc_khz
from popcorn.machine.booted import booted_kernels
from popcorn.machine.control import Control, open_memory
from popcorn.machine.launch import HEADER_FILE
from popcorn.machine.machine import Machine
from popcorn.machine.memory import GuestMemory, NodeMemory
from popcorn.machine.registry import PLAN_FILE
from popcorn.snapshot.beats import await_beats, beating, beats_of
from popcorn.snapshot.clock import frozen_tsc, set_time_of_day
from popcorn.snapshot.file import Header, Writer
from popcorn.snapshot.inputs import Inputs, of_machine
from popcorn.snapshot.migration import take_state
from popcorn.snapshot.pages import PAGE_BYTES, Pages, Sieve
from popcorn.snapshot.shelf import Kind, writing

_FILES = (PLAN_FILE, HEADER_FILE, "kernels.json", "kernels-replaced.json", "events.jsonl", "serial.log")
_CHUNK_PAGES = 1024
# How long the last heartbeat that was seen may be ago. A kernel's heart beats once a second, if the host is not busy.
_OLDEST_BEAT_S = 600


def save(machine: Machine, name: str, kind: Kind = "named", inputs: Inputs | None = None) -> bool:
    """Save a machine; tells whether it did: False if the snapshot is there already.

    Args:
        inputs: what it was made of, if more is known than what was recorded.

    Raises:
        UserError: a machine of this kind cannot be saved, or does not run.
        DiskFullError: there is no room.
        HostError: QEMU or the host refused.
        MachineLostError: the machine is gone.
    """
    require_savable(machine)
    khz = await_tsc_khz(machine)
    if khz is None:
        raise HostError(f"the primary of machine {machine.name!r} has not measured its time stamp counter yet")
    made_of = inputs or of_machine(machine.plan, machine.record.accel, booted_kernels(machine.run_dir))
    with writing(name, kind) as out:
        if out is None:
            return False
        with Control(machine.record) as control:
            answer = control.ask("pause")
            tsc: int | None = None
            alive: tuple[int, ...] = ()
            try:
                alive = beating(machine, answer["health"])
                state = take_state(machine)
                beat = max(slot.heartbeat_tsc for slot in machine.region().slots())
                tsc = frozen_tsc(state, at_least=beat, at_most=beat + khz * 1000 * _OLDEST_BEAT_S)
                header = Header(
                    saved=answer["now"],
                    machine=machine.plan.machine.name,
                    policy=machine.plan.policy,
                    kernels=machine.record.kernels,
                    node_bytes=tuple(size for _, size in machine.record.nodes),
                    beating=alive,
                    tsc=tsc,
                    times=answer["times"],
                    seen_at=answer["now"],
                    inputs=asdict(made_of),
                )
                with Writer(out, header) as writer:
                    writer.files(dict(_files(machine.run_dir)))
                    writer.state(state)
                    _write_memory(writer, machine.memory)
            finally:
                resumed = control.ask("resume")["resumed"]
                if tsc is not None:
                    _correct_clocks(machine, tsc, resumed, alive)
    return True


def require_savable(machine: Machine) -> None:
    """
    Raises:
        UserError: what keeps this machine from being saved.
    """
    record = machine.record
    if not record.region_size:
        why = "its kernel is one without Popcorn"
    elif record.accel != "tcg":
        why = f"it runs by {record.accel}, of which saving is not tried yet"
    elif record.qemu_options:
        why = f"it was booted with --qemu-option {' '.join(record.qemu_options)}"
    else:
        return
    raise UserError(f"the machine {machine.name!r} cannot be saved: {why}")


def _correct_clocks(machine: Machine, tsc: int, resumed: float, alive: Sequence[int]) -> None:
    memory = open_memory(machine.record, writable=True)
    try:
        set_time_of_day(machine.record, memory, tsc=tsc, wall_s=resumed)
    finally:
        memory.close()
    await_beats(machine, beats_of(machine, alive))


def _files(run_dir: Path) -> Iterator[tuple[str, bytes]]:
    consoles = sorted((run_dir / "console").glob("*"))
    for path in [*(run_dir / name for name in _FILES), *consoles]:
        if path.is_file():
            yield path.relative_to(run_dir).as_posix(), path.read_bytes()


def _write_memory(writer: Writer, memory: GuestMemory) -> None:
    sieve = Sieve()
    for number, node in enumerate(memory.nodes):
        for first, pages in _used_pages(node):
            numbers, fresh = sieve.sift(pages)
            if numbers.any():
                writer.pages(number, first, numbers, fresh)


def _used_pages(node: NodeMemory) -> Iterator[tuple[int, Pages]]:
    """What the host has given to a node, in pieces: the first page, and the pages, valid until the next piece."""
    buffer = np.empty((_CHUNK_PAGES, PAGE_BYTES), dtype=np.uint8)
    for extent in GuestMemory([node], node.size).data_extents(0, node.size):
        for begin in range(extent.offset, extent.offset + extent.size, buffer.nbytes):
            size = min(buffer.nbytes, extent.offset + extent.size - begin)
            pages = buffer[: size // PAGE_BYTES]
            if os.preadv(node.fd, [pages.data.cast("B")], begin) != size:
                raise HostError(f"cannot read {size:#x} bytes of a node's memory at {begin:#x}")
            yield begin // PAGE_BYTES, pages
