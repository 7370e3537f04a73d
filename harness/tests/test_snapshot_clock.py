# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_region import SIZE, WrittenRegion, contract_header

from popcorn.errors import HostError
from popcorn.machine.memory import GuestMemory, create_node_memory
from popcorn.machine.recorder import Recorder
from popcorn.machine.registry import Record
from popcorn.snapshot.clock import frozen_tsc, set_time_of_day

START = 0x200000
# As QEMU 7.2 writes it: section 4, number, name, instance, version, then the counter and the clock.
TIMER = b"\x04\x00\x00\x00\x02\x05timer" + struct.pack(">IIqqq", 0, 2, 0x1234_5678_9ABC, 0, 77)


def test_the_counter_of_a_machine_that_stands_still_is_in_qemus_state() -> None:
    state = b"QEVM" + bytes(100) + TIMER + bytes(100)
    assert frozen_tsc(state, at_least=0x1234_0000_0000, at_most=0x1235_0000_0000) == 0x1234_5678_9ABC


@pytest.mark.parametrize(
    ("state", "why"), [(b"QEVM" + bytes(100), "there is none"), (TIMER, "is not between")], ids=["none", "another one"]
)
def test_a_counter_that_cannot_be_is_refused(state: bytes, why: str) -> None:
    with pytest.raises(HostError, match=why):
        frozen_tsc(state, at_least=0x2234_0000_0000, at_most=0x2235_0000_0000)


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    made = GuestMemory([create_node_memory(0, 8 << 20)], 8 << 20)
    yield made
    made.close()


def record(folder: Path, header: str) -> Record:
    (folder / "popcorn.h").write_text(header)
    return Record("m", "up", str(folder), header=str(folder / "popcorn.h"), region_start=START, region_size=SIZE)


def test_the_kernels_are_told_the_time_and_see_that_it_changed(memory: GuestMemory, tmp_path: Path) -> None:
    written = WrittenRegion(start=START)
    written.header.clock_seq = 6
    os.pwrite(memory.nodes[0].fd, written.memory, START)
    set_time_of_day(record(tmp_path, contract_header()), memory, tsc=12345, wall_s=1_800_000_000.25)
    region = WrittenRegion(memory=bytearray(memory.read(START, SIZE)), start=START)
    told = region.header
    assert (told.clock_seq, told.wall_tsc) == (7, 12345)
    assert abs(told.wall_ns - 1_800_000_000_250_000_000) < 1000


def test_kernels_that_cannot_be_told_are_refused(memory: GuestMemory, tmp_path: Path) -> None:
    header = contract_header().replace("clock_seq", "reserved_seq")
    with pytest.raises(HostError, match=r"popcorn\.h lacks clock_seq"):
        set_time_of_day(record(tmp_path, header), memory, tsc=1, wall_s=1.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_recorder_goes_on_where_that_of_the_saved_machine_was(tmp_path: Path) -> None:
    written, clock = WrittenRegion(), Clock()
    first = Recorder(written.region(), tmp_path, clock=clock)
    written.set(0, "running", "user").heartbeat = 5
    written.log(0, b"before\nprompt ")
    first.poll()
    (tmp_path / "serial.log").write_text("serial\n")
    clock.now = 1002.0
    first.poll()
    first.flush()
    times = first.times()
    first.close()

    clock.now = 5000.0
    second = Recorder(written.region(), tmp_path, clock=clock)
    second.go_on(times, seen_at=1002.0)
    assert not second.poll(), "nothing has happened since"
    written.log(0, b"$ after\n")
    written.slot(0).heartbeat = 6
    assert second.times()["0"]["heartbeat_at"] == 4998.0, "its age is what it was"
    second.poll()
    second.close()
    assert second.times()["0"]["heartbeat_at"] == 5000.0
    assert second.times()["0"]["user_at"] == 1000.0
    assert (tmp_path / "console/0.log").read_bytes() == b"before\nprompt $ after\n"
    assert (tmp_path / "console/serial.jsonl").read_text().count("serial") == 1
    assert (tmp_path / "events.jsonl").read_text().count('"stage": "user"') == 1
