# SPDX-License-Identifier: Apache-2.0
"""Counting instructions: what is read from the emulator, and trials of their own for it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from experiment_fakes import Stage, staged

from popcorn.errors import HostError, UserError
from popcorn.experiment.description import find_description
from popcorn.experiment.executor import LocalExecutor
from popcorn.experiment.ready import Wanted, get_ready
from popcorn.experiment.record import begin_record, read_record
from popcorn.experiment.runner import take_trials
from popcorn.gate.measured import Point, read_measured
from popcorn.machine.instructions import MARKS, InstructionFile, Mark, api_version, between_marks
from popcorn.report.experiment import write_experiment_report
from popcorn.report.points import counted_table, read_run
from popcorn.run.results import read_trials


@pytest.mark.parametrize(("qemu", "api"), [((7, 2), 1), ((8, 2), 1), ((9, 0), 2), ((9, 1), 3), ((10, 0), 3)])
def test_the_plugin_is_built_for_the_interface_of_the_emulator(qemu: tuple[int, int], api: int) -> None:
    assert api_version(qemu) == api


def _mark(file: InstructionFile, *rows: tuple[int, ...]) -> None:
    """Write as the plugin does."""
    with file.path.open("r+b") as out:
        for row in rows:
            out.seek(16)
            number = struct.unpack("<Q", out.read(8))[0]
            out.seek(64 + 64 * file.cpus + number * 8 * (2 + file.cpus))
            out.write(struct.pack(f"<{2 + file.cpus}Q", *row))
            out.seek(16)
            out.write(struct.pack("<Q", number + 1))
            out.flush()


def test_marks_are_read_in_their_order_and_unfinished_ones_left_out(tmp_path: Path) -> None:
    file = InstructionFile.make(tmp_path / "counts", 2)
    assert file.marks() == []
    _mark(file, (1, 0, 10, 20), (0, 1, 0, 0), (1, 1, 30, 40))
    assert file.marked == 3
    assert file.marks() == [Mark(0, (10, 20)), Mark(1, (30, 40))]
    assert file.marks(since=2) == [Mark(1, (30, 40))]


def test_more_marks_than_there_is_room_for_are_told(tmp_path: Path) -> None:
    file = InstructionFile.make(tmp_path / "counts", 1)
    with file.path.open("r+b") as out:
        out.seek(16)
        out.write(struct.pack("<Q", MARKS + 1))
    with pytest.raises(HostError, match=f"{MARKS + 1} moments were marked"):
        file.marks()


def test_instructions_are_those_of_a_kernels_cpus_between_its_last_two_marks() -> None:
    marks = [Mark(0, (1, 2, 3)), Mark(0, (10, 20, 30)), Mark(2, (11, 22, 33)), Mark(1, (15, 27, 99))]
    assert between_marks(marks, (0, 1)) == 5 + 7
    assert between_marks(marks, (2,)) is None


def _run(run_dir: Path, monkeypatch: pytest.MonkeyPatch, instructions: int | None = 1000) -> Stage:
    stage = Stage(instructions=instructions)
    monkeypatch.setattr("popcorn.experiment.executor.mark_files", dict)
    ready = staged(monkeypatch, stage)(instructions=True)
    begin_record(ready, "kvm", ["popcorn", "run", "test"], run_dir)
    take_trials(ready, run_dir, LocalExecutor(ready, "kvm", run_dir / "boots", quiet_s=0.0))
    return stage


def test_instructions_are_counted_in_boots_of_their_own_a_trial_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = _run(tmp_path, monkeypatch)
    assert sorted(stage.boots) == ["one all", "one all counting", "other all", "other all counting"]
    assert [boot.endswith("counting") for boot in stage.boots] == [False, False, True, True]
    counted = [(row, found) for row, found in read_trials(tmp_path) if row.kind == "counted"]
    assert sorted((row.system, row.cores) for row, _ in counted) == [
        (system, cores) for system in ("one", "other") for cores in (1, 2)
    ]
    for row, found in counted:
        assert [(one.metric, one.value) for one in found] == [("count.instructions", 1000.0 * row.cores)]
        assert (tmp_path / row.raw).name.startswith("counted-")


def test_the_report_has_instructions_beside_the_other_counts_and_no_time_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(tmp_path, monkeypatch)
    data = read_run(tmp_path)
    assert data.missing == 0
    assert all(one.count == 3 for one in data.estimates.values())
    header, rows = counted_table(data)
    assert {row[header.index("instructions")] for row in rows} == {"1000", "2000"}
    page = write_experiment_report([tmp_path]).read_text(encoding="utf-8")
    assert " Instructions were counted in 4 trials of their own." in page.replace("\n", " ")
    point = Point("scripted", "one", 2, "count.instructions")
    assert read_measured(tmp_path).points[point].values == [2000.0]


def test_a_workload_that_marks_nothing_has_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path, monkeypatch, None)
    lost = read_run(tmp_path).lost
    assert [(row.kind, row.status) for row in lost] == [("counted", "void")] * 4
    assert "did not mark where the workload began" in lost[0].reason
    assert len(read_run(tmp_path).trials) == 12


def test_a_resumed_run_counts_what_was_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = _run(tmp_path, monkeypatch)
    ready = staged(monkeypatch, stage)(instructions=True)
    stage.boots.clear()
    take_trials(ready, tmp_path, LocalExecutor(ready, "kvm", tmp_path / "boots", quiet_s=0.0))
    assert stage.boots == []
    record, _, wanted = read_record(tmp_path)
    assert wanted.instructions
    assert "--instructions" in record.command


def test_what_cannot_be_counted_is_told_before_anything_is_booted() -> None:
    with pytest.raises(UserError, match="messages: no instructions can be counted"):
        get_ready(find_description("messages"), Wanted(instructions=True))


def test_without_being_asked_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [job for job in staged(monkeypatch, Stage())().jobs if job.counting] == []
