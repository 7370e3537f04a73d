# SPDX-License-Identifier: Apache-2.0
"""Kernels may leave anything in memory and on their consoles: who looks from outside reads it or says why not."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from shared_region import SIZE, START, WrittenRegion, contract_header

from popcorn.config import load_machine
from popcorn.diagnose.console import lives, parse_text
from popcorn.diagnose.facts import end_of, facts_of
from popcorn.diagnose.layout import Symbols, find_layout, translate
from popcorn.diagnose.registers import parse_registers
from popcorn.diagnose.reports import cause, find_reports
from popcorn.diagnose.verdict import diagnose
from popcorn.errors import PopcornError
from popcorn.guest.several import FrameParser
from popcorn.machine.memory import GuestMemory, create_node_memory
from popcorn.machine.peers import peer_of, says_network_is_down
from popcorn.machine.progress import CpuTimes, Progress
from popcorn.machine.qmp import forwarded_port
from popcorn.machine.recorded import read_log, recorded_events
from popcorn.machine.recorder import Recorder
from popcorn.machine.registry import Record
from popcorn.machine.status import kernel_statuses
from popcorn.machine.timestamps import LineSplitter, parse_entries
from popcorn.plan import make_plan

PLAN = make_plan(load_machine("small"), "per-core")
# Where something that is interpreted lies: the header, slots, and the registry behind them.
_INTERESTING_BYTES = 0x10000 + 8 * 4096
_NASTY = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, START, START + SIZE)
_JSON_LINES = (
    *('{"t": 1}', "{}", "[", "null", '{"t": [], "text": 1}', "9" * 5000),
    *('{"t": null, "kernel": 0, "event": "kernel"}', '{"t": 1.5, "kernel": 0, "event": "kernel", "state": "dead"}'),
)
_RECORDED = Path(__file__).parent / "recorded" / "diagnose"


def _overwrite(memory: bytearray, seed: int) -> None:
    """Overwrite some words, those of the header and of slots more often than others."""
    choose = random.Random(seed)
    for _ in range(choose.randrange(1, 40)):
        at = choose.randrange(8, choose.choice((512, _INTERESTING_BYTES, SIZE - 8)))
        word = choose.choice((choose.randrange(1 << 64), choose.choice(_NASTY), choose.randrange(600)))
        memory[at // 4 * 4 : at // 4 * 4 + 8] = word.to_bytes(8, "little")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@given(st.lists(st.integers(0, 1 << 32), min_size=1, max_size=4))
def test_the_recorder_goes_on_whatever_kernels_write(seeds: list[int]) -> None:
    written = WrittenRegion(nr_kernels=8)
    written.log(1, b"hello\n")
    region = written.region()
    progress = Progress(CpuTimes(0))
    with _folder() as place:
        recorder = Recorder(region, place)
        for number, seed in enumerate(seeds):
            recorder.poll()
            progress.look(recorder.slots.values(), 10.0 * number)
            _overwrite(written.memory, seed)
        recorder.poll()
        json.dumps([recorder.times(), progress.health()])
        recorder.close()
        for event in recorded_events(place):
            assert event["event"]
        for path in (place / "console").glob("*.jsonl"):
            list(read_log(place, path.stem))
        facts = facts_of(recorded_events(place), range(8), 0)
        for id, known in facts.items():
            assert known[-1].id == id


@given(st.integers(0, 1 << 32))
def test_ps_tells_something_of_any_region(seed: int) -> None:
    written = WrittenRegion(nr_kernels=8)
    for id in range(8):
        written.set(id, "running", "user").heartbeat = 1
    _overwrite(written.memory, seed)
    memory = _guest_memory()
    statuses = kernel_statuses(PLAN, written.region(), memory, {}, 0.0, 2_000_000)
    assert {status.id for status in statuses} >= {partition.id for partition in PLAN.partitions}
    json.dumps([status.__dict__ for status in statuses])


@given(st.binary(min_size=0, max_size=8192))
def test_a_region_of_any_bytes_is_read_or_refused(content: bytes) -> None:
    written = WrittenRegion()
    region = written.region()
    for start in (bytes(content), bytes(written.memory[:64]) + content):
        with suppress(PopcornError):
            other = type(region)(written.layout, start, START)
            other.slots()
            other.log_tail(0)


@cache
def _guest_memory() -> GuestMemory:
    return GuestMemory([create_node_memory(node, one.memory) for node, one in enumerate(PLAN.machine.nodes)], 2 << 30)


@given(st.integers(0, 1 << 32), st.integers(0, 7))
def test_an_entry_of_the_registry_may_be_anything(seed: int, id: int) -> None:
    written = WrittenRegion(nr_kernels=8)
    written.header.peer_offset = 0x10000 + 8 * 4096
    written.header.peer_stride = 64
    _overwrite(written.memory, seed)
    memory = _guest_memory()
    os.pwrite(memory.nodes[0].fd, written.memory[:_INTERESTING_BYTES], START)
    record = Record("m", "up", "", header=str(_header()), region_start=START, region_size=SIZE)
    assert says_network_is_down(record, memory, id) in (True, False)
    with suppress(PopcornError):
        peer_of(record, memory, id)


@cache
def _header() -> Path:
    path = Path(tempfile.mkdtemp(prefix="popcorn-test-")) / "popcorn.h"
    path.write_text(contract_header())
    return path


@given(st.integers(0, 1 << 32), st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 40))
def test_page_tables_of_any_bytes_lead_somewhere_or_nowhere(seed: int, address: int, tables: int) -> None:
    page = random.Random(seed).randbytes(4096)

    def read(start: int, size: int) -> bytes:
        at = start % (len(page) - 8)
        return page[at : at + size]

    found = translate(read, tables, address)
    assert found is None or 0 <= found < 1 << 52


@given(st.integers(0, 1 << 32))
def test_a_kernel_is_looked_for_in_any_memory(seed: int) -> None:
    noise = random.Random(seed).randbytes(1 << 16)

    def read(start: int, size: int) -> bytes:
        return bytes(noise[(start + index) % len(noise)] for index in range(size))

    with suppress(PopcornError):
        find_layout(read, [(1 << 20, 64 << 20)], _symbols(), b"Linux version 6.12")


@cache
def _symbols() -> Symbols:
    path = Path(tempfile.mkdtemp(prefix="popcorn-test-")) / "System.map"
    names = {"_text": 0, "_end": 0x1800000, "phys_base": 0x1000, "linux_banner": 0x2000, "init_top_pgt": 0x3000}
    path.write_text("".join(f"{0xFFFFFFFF81000000 + at:016x} D {name}\n" for name, at in names.items()))
    return Symbols(path)


@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_a_console_is_cut_into_lines_without_losing_a_character(pieces: list[bytes], flush: bool) -> None:
    splitter = LineSplitter()
    entries = [entry for number, piece in enumerate(pieces) for entry in splitter.feed(piece, float(number))]
    entries += splitter.flush() if flush else []
    whole = b"".join(pieces)
    expected = whole if flush else whole[: whole.rfind(b"\n") + 1]
    printed = "".join(entry.text + ("" if entry.more else "\n") for entry in entries)
    lines = [line.rstrip(b"\r").decode("utf-8", "replace") for line in expected.split(b"\n")]
    assert printed == "\n".join(lines)
    written = "".join(entry.to_json() + "\n" for entry in entries)
    assert [entry.text for entry in parse_entries(written.split("\n"))] == [entry.text for entry in entries]


@given(st.lists(st.one_of(st.text(), st.sampled_from(_JSON_LINES))))
def test_what_a_recorder_that_was_killed_left_is_read_as_far_as_it_goes(lines: list[str]) -> None:
    list(parse_entries(lines))
    with _folder() as place:
        (place / "events.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        events = recorded_events(place)
        assert all(isinstance(event, dict) for event in events)
        facts_of(events, [0], 0)
        end_of(events, live=False)


@cache
def _golden_lines() -> list[str]:
    return [line for path in sorted(_RECORDED.glob("*.log")) for line in path.read_text().splitlines()]


@given(st.data())
def test_any_console_is_diagnosed(data: st.DataObject) -> None:
    """Lines of recorded faults, in any order, cut, doubled and run together."""
    lines = []
    for _ in range(data.draw(st.integers(1, 12))):
        begin = data.draw(st.integers(0, len(_golden_lines()) - 1))
        for line in _golden_lines()[begin : begin + data.draw(st.integers(1, 6))]:
            cut = data.draw(st.integers(0, len(line)))
            lines.append(line[:cut] + data.draw(st.sampled_from(["", "\n", line, "\0", "[<0>] ? ", "x" * 300])))
    parsed = parse_text("\n".join(lines))
    for life in lives(parsed):
        cause(find_reports(life))
    events = [{"t": 1.0, "event": "kernel", "kernel": 0, "generation": 1, "state": "running", "stage": "user"}]
    found = diagnose(facts_of(events, [0], 0)[0], parsed, None, 100.0)
    assert found.title


@given(st.text(max_size=300))
def test_what_qemu_prints_may_be_anything(text: str) -> None:
    forwarded_port(text, 22)
    parse_registers(text)
    parse_registers(f"CPU#0\n{text}CPU#1\nRIP=0000000000000000")


@given(st.one_of(st.binary(max_size=60), st.from_regex(rb"(-?[0-9]{1,3} ){3}-?[0-9]{1,3}\n.{0,20}", fullmatch=True)))
def test_answers_of_many_kernels_are_whole_or_refused(data: bytes) -> None:
    parser = FrameParser(["true"])
    with suppress(ValueError):
        for id, done in parser.feed(data):
            head, _, data = data.partition(b"\n")
            streams = done.stdout + done.stderr
            assert [int(word) for word in head.split()] == [id, done.status, len(done.stdout), len(done.stderr)]
            assert data.startswith(streams)
            data = data[len(streams) :]
