# SPDX-License-Identifier: Apache-2.0
"""What is said of kernels that reported nothing, or not in their latest life, and of machines that failed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from test_diagnose_reports import recorded

from popcorn.cli.main import main
from popcorn.config import load_machine
from popcorn.diagnose.console import Line, parse_text, read_lines
from popcorn.diagnose.facts import End, Facts, end_of, facts_of
from popcorn.diagnose.kinds import Kind
from popcorn.diagnose.recorded import diagnose_run
from popcorn.diagnose.verdict import Diagnosis, diagnose
from popcorn.machine.booted import BootedKernel, booted_kernels, note_started
from popcorn.machine.timestamps import Entry
from popcorn.plan import make_plan

UP = Facts(3, state="running", stage="user", generation=1, changed_at_s=100.0)
DOWN = End("down", 500.0)
_NOTHING: list[Line] = []


def verdict(facts: Facts, console: str = "6.12-fine", end: End | None = None, now_s: float = 500.0) -> Diagnosis:
    return diagnose([facts], parse_text(recorded(console)) if console else [], end, now_s)


def facts(state: str, stage: str, reason: str = "", **rest: object) -> Facts:
    return Facts(3, state=state, stage=stage, generation=1, reason=reason, changed_at_s=100.0, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "kind", "title"),
    [
        (UP, Kind.FINE, "fine"),
        (facts("parked", "user", "restart"), Kind.PARKED, "parked: restart"),
        (facts("dead", "user", "stopped by kernel 12"), Kind.STOPPED, "stopped by another kernel"),
        (facts("dead", "user"), Kind.SILENT, "died without a word"),
        (facts("dead", "user", "Fatal exception"), Kind.PANIC, "panic: Fatal exception"),
        (facts("running", "user", health="hung"), Kind.HUNG, "hung: busy and without a heartbeat"),
        (facts("dead", "user", "stopped by kernel 0", health="hung"), Kind.HUNG, "hung: busy and without a heartbeat"),
        (facts("running", "user", health="silent"), Kind.SILENT, "silent: its CPUs stand still, and its heart does"),
        (facts("running", "user", health="slow"), Kind.SLOW, "slow: the host gives it too little time"),
        (facts("none", "none"), Kind.NEVER_STARTED, "never started: nobody launched it"),
        (facts("early", "platform"), Kind.NEVER_STARTED, "never started: early at stage platform"),
        (facts("early", "smp", health="hung"), Kind.NEVER_STARTED, "never started: early at stage smp, hung"),
        (facts("early", "smp", health="slow"), Kind.BOOTING, "booting, at stage smp"),
        (
            facts("none", "none", launch_failure="no memory at 0x1000"),
            Kind.NEVER_STARTED,
            "never started: no memory at 0x1000",
        ),
    ],
)
def test_a_kernel_without_a_report_is_judged_from_outside(seen: Facts, kind: Kind, title: str) -> None:
    found = verdict(seen)
    assert (found.kind, found.title) == (kind, title)
    assert found.in_order == (kind in (Kind.FINE, Kind.PARKED, Kind.STOPPED, Kind.SLOW, Kind.BOOTING))


def test_a_kernel_that_was_on_its_way_when_the_machine_ended_is_not_at_fault() -> None:
    boots = facts("early", "smp")
    assert verdict(boots, end=End("down", 105.0), now_s=105.0).kind is Kind.BOOTING
    assert verdict(boots, end=End("down", 200.0), now_s=200.0).kind is Kind.NEVER_STARTED


def test_a_report_outweighs_how_the_kernel_ended() -> None:
    assert verdict(facts("dead", "user", "Fatal exception"), "6.12-bug").kind is Kind.BUG
    assert verdict(facts("parked", "user", "restart"), "6.12-warning").kind is Kind.WARNING


def test_the_reset_of_a_machine_is_told_unless_the_primary_said_that_it_reboots() -> None:
    primary = Facts(0, primary=True, state="running", stage="user", generation=1)
    reset = End("the primary rebooted (or reset the machine by a triple fault)", 500.0)
    assert verdict(primary, end=reset).kind is Kind.SILENT
    said = parse_text(recorded("6.12-fine") + "[   99.000000] reboot: Restarting system\n")
    assert diagnose([primary], said, reset, 500.0).kind is Kind.PARKED
    assert verdict(UP, end=reset).kind is Kind.FINE


def test_a_life_that_printed_nothing_is_not_taken_for_the_one_before() -> None:
    history = [
        facts("dead", "user", "Fatal exception"),
        Facts(3, state="loaded", stage="none", generation=2, loaded_at_s=200.0, changed_at_s=200.0),
    ]
    lines = read_lines(Entry(150.0, line) for line in recorded("6.12-bug").splitlines())
    found = diagnose(history, lines, None, 500.0)
    assert (found.kind, found.generation) == (Kind.NEVER_STARTED, 2)
    assert [life.kind for life in found.earlier] == [Kind.BUG]


def test_lives_that_nobody_saw_begin_are_told_by_their_banners() -> None:
    text = recorded("6.12-bug") + recorded("6.12-panic") + recorded("6.12-fine")
    found = diagnose([UP], parse_text(text), None, 500.0)
    assert found.kind is Kind.FINE
    assert [life.title for life in found.earlier] == [
        "BUG at drivers/popcorn/fault.c in fault_bug",
        "panic: fault on request",
    ]


def test_a_stall_while_the_host_was_slow_is_no_fault_unless_the_kernel_stays_stuck() -> None:
    events = [
        {"event": "kernel", "kernel": 3, "t": 1.0, "state": "running", "stage": "user", "generation": 1},
        {"event": "health", "kernel": 3, "t": 140.0, "health": "slow", "still_s": 30.0},
        {"event": "health", "kernel": 3, "t": 152.0, "health": "ok"},
    ]
    stall = "[  200.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:31]"
    console = [Entry(150.0, line) for line in (*recorded("6.12-fine").splitlines(), stall)]

    def judged(more: list[dict[str, object]]) -> Kind:
        history = facts_of([*events, *more], [3], 0)[3]
        return diagnose(history, read_lines(console), None, 500.0).kind

    assert judged([]) is Kind.SLOW
    assert judged([{"event": "health", "kernel": 3, "t": 160.0, "health": "hung"}]) is Kind.SOFT_LOCKUP
    late = [*console[:-1], Entry(400.0, stall)]
    assert diagnose(facts_of(events, [3], 0)[3], read_lines(late), None, 500.0).kind is Kind.SOFT_LOCKUP


@pytest.mark.parametrize(
    ("reason", "infrastructure"),
    [
        ("down", False),
        ("the supervisor got SIGTERM", False),
        ("the primary powered the machine off", False),
        ("QEMU was killed by SIGKILL", True),
        ("QEMU ended with status 1: cannot allocate memory", True),
    ],
)
def test_the_end_of_a_machine_is_a_fault_of_what_carries_it_or_not(reason: str, infrastructure: bool) -> None:
    end = end_of([{"event": "ended", "t": 1.0, "reason": reason}], live=False)
    assert end is not None
    assert end.infrastructure is infrastructure


def test_a_machine_without_an_end_is_up_or_lost_its_supervisor() -> None:
    assert end_of([], live=True) is None
    end = end_of([], live=False)
    assert end is not None
    assert end.infrastructure


def _run(folder: Path, console: str, reason: str) -> Path:
    folder.mkdir()
    (folder / "console").mkdir()
    (folder / "plan.json").write_text(make_plan(load_machine("small"), "per-node").to_json())
    (folder / "popcorn.h").write_text("")
    ids = [partition.id for partition in make_plan(load_machine("small"), "per-node").partitions]
    events = [
        {"event": "kernel", "kernel": id, "t": 1.0, "state": "running", "stage": "user", "generation": 1} for id in ids
    ]
    events.append({"event": "ended", "t": 9.0, "reason": reason})
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    for id, name in zip(ids, [console] + ["6.12-fine"] * len(ids), strict=False):
        entries = (Entry(2.0, line).to_json() + "\n" for line in recorded(name).splitlines())
        (folder / "console" / f"{id}.jsonl").write_text("".join(entries))
    return folder


@pytest.mark.parametrize(
    ("console", "reason", "status", "printed"),
    [
        ("6.12-fine", "down", 0, "kernels 0,4: fine"),
        ("6.12-fine", "QEMU was killed by SIGKILL", 3, "the machine: QEMU was killed by SIGKILL"),
        ("3.2-null-pointer", "down", 1, "kernel 0: oops: NULL pointer dereference in sysrq_handle_crash"),
        ("6.12-panic", "QEMU was killed by SIGKILL", 1, "kernel 0: panic: fault on request"),
    ],
)
def test_the_command_tells_a_recorded_run(
    console: str, reason: str, status: int, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path / "run", console, reason)
    assert main(["diagnose", str(run)]) == status
    assert printed in capsys.readouterr().out
    assert main(["diagnose", str(run), "--json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert [kernel["in_order"] for kernel in told["kernels"]] == [status != 1, True]


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(tmp_path)]) == 2
    assert "plan.json" in capsys.readouterr().err


def test_a_recording_that_stopped_is_told(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "6.12-fine", "down")
    (run / "supervisor.log").write_text("recording in /x stopped: No space left on device\n")
    assert "No space left" in diagnose_run(run).infrastructure


def test_a_kernel_that_was_started_with_another_image_is_known_by_that(tmp_path: Path) -> None:
    for name, release in (("a", "6.12-popcorn"), ("b", "3.2-popcorn")):
        (tmp_path / name).mkdir()
        facts = {"series": "x", "flavour": "default", "release": release}
        (tmp_path / name / "kernel.json").write_text(json.dumps(facts))
    run = tmp_path / "run"
    run.mkdir()
    booted = BootedKernel("x", "default", "6.12-popcorn", str(tmp_path / "a"))
    (run / "kernels.json").write_text(json.dumps({"0": asdict(booted), "1": asdict(booted), "2": asdict(booted)}))
    note_started(run, [1], tmp_path / "b" / "vmlinux")
    note_started(run, [2], tmp_path / "from-somewhere" / "vmlinux")
    assert {id: kernel.key for id, kernel in booted_kernels(run).items()} == {0: "a", 1: "b"}
    note_started(run, [1, 2], None)
    assert {id: kernel.key for id, kernel in booted_kernels(run).items()} == {0: "a", 1: "a", 2: "a"}
