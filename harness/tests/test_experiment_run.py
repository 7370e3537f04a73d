# SPDX-License-Identifier: Apache-2.0
"""Trials are taken, recorded and resumed; those that come to grief are recorded as what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from experiment_fakes import FakeBooted, Stage, fine, staged

from popcorn.errors import GuestError, MachineLostError, UserError
from popcorn.experiment import watch
from popcorn.experiment.executor import LocalExecutor
from popcorn.experiment.protocols import Booted, Outcome, Share
from popcorn.experiment.ready import Ready
from popcorn.experiment.record import begin_record, done_trials, locked, read_record
from popcorn.experiment.runner import take_trials
from popcorn.experiment.watch import IdleJudge, supervised
from popcorn.guest.ssh import TimedOutError
from popcorn.run.results import Measurement, read_trials

POINTS = 2 * 2 * 3


def _begin(ready: Ready, run_dir: Path) -> LocalExecutor:
    begin_record(ready, "tcg", ["popcorn", "run", "test"], run_dir)
    return LocalExecutor(ready, "tcg", run_dir / "boots", quiet_s=0.0)


def _once(outcome: Outcome | BaseException, at: int) -> tuple[Stage, list[int]]:
    """A stage whose workload does something else at its nth call."""
    calls: list[int] = []

    def script(booted: Booted, shares: Sequence[Share]) -> Outcome:
        calls.append(1)
        if len(calls) != at:
            return fine(booted, shares)
        if isinstance(outcome, BaseException):
            if isinstance(outcome, MachineLostError):
                assert isinstance(booted, FakeBooted)
                booted.up = False
            raise outcome
        return outcome

    return Stage(script), calls


def test_each_trial_is_recorded_with_its_manifest_and_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    ready = staged(monkeypatch, stage)()
    statuses = take_trials(ready, tmp_path, _begin(ready, tmp_path))
    assert statuses == {"ok": POINTS}
    trials = read_trials(tmp_path)
    assert sum(row.kind == "measured" for row, _ in trials) == POINTS
    for row, found in trials:
        assert (tmp_path / row.manifest).is_file()
        assert (tmp_path / row.raw).read_bytes() == b"it went well\n"
        assert found[0] == Measurement("time", 1.0 / row.cores, "s")
    assert stage.boots.count("one all") == stage.boots.count("other all") == 1


def test_a_warm_up_with_the_most_cores_comes_first_in_each_boot_and_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = staged(monkeypatch, Stage())()
    take_trials(ready, tmp_path, _begin(ready, tmp_path))
    kinds: dict[str, list[tuple[str, int]]] = {}
    for row, _ in read_trials(tmp_path):
        kinds.setdefault(row.boot, []).append((row.kind, row.cores))
    assert len(kinds) == 2
    for own in kinds.values():
        assert own[0] == ("warm-up", 2)
        assert all(kind == "measured" for kind, _ in own[1:])


@pytest.mark.parametrize(
    ("outcome", "status", "boots"),
    [
        (Outcome("void", reason="verification failed"), "void", 2),
        (Outcome("failed", reason="exit status 3"), "failed", 2),
        (GuestError("kernel 1 cannot be reached"), "failed", 2),
        (TimedOutError("it did not end within 5 s"), "hung", 3),
        (Outcome("killed", reason="exit status 137"), "killed", 3),
        (MachineLostError("QEMU was killed"), "killed", 3),
    ],
)
def test_a_trial_that_comes_to_grief_has_no_value_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome | BaseException, status: str, boots: int
) -> None:
    # The first call is the warm-up.
    stage, _ = _once(outcome, at=3)
    ready = staged(monkeypatch, stage)()
    statuses = take_trials(ready, tmp_path, _begin(ready, tmp_path))
    assert statuses == {"ok": POINTS - 1, status: 1}
    (lost,) = [(row, found) for row, found in read_trials(tmp_path) if row.status != "ok"]
    assert lost[0].reason
    assert lost[1] == [Measurement("time", None, "s", status=lost[0].status)]
    # After some of these nobody knows what state the system is in.
    assert len(stage.boots) == boots


@pytest.mark.parametrize("at", [2, 5, 11])
def test_a_run_that_was_stopped_and_resumed_is_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    ready = staged(monkeypatch, Stage())()
    take_trials(ready, whole, _begin(ready, whole))
    stage, _ = _once(KeyboardInterrupt(), at=at)
    ready = staged(monkeypatch, stage)()
    executor = _begin(ready, parts)
    with pytest.raises(KeyboardInterrupt):
        take_trials(ready, parts, executor)
    stopped = done_trials(parts)
    assert len(stopped) < POINTS
    take_trials(ready, parts, executor)
    assert done_trials(parts)[: len(stopped)] == stopped

    def content(run_dir: Path) -> list[tuple[object, ...]]:
        return sorted(
            (row.system, row.workload, row.cores, row.iteration, row.status, row.block, row.raw, found[0].value)
            for row, found in read_trials(run_dir)
            if row.kind == "measured"
        )

    assert content(parts) == content(whole)


def test_a_run_that_is_complete_boots_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    ready = staged(monkeypatch, stage)()
    executor = _begin(ready, tmp_path)
    take_trials(ready, tmp_path, executor)
    boots = len(stage.boots)
    assert take_trials(ready, tmp_path, executor) == {"ok": POINTS}
    assert len(stage.boots) == boots


def test_a_system_that_does_not_come_through_its_warm_up_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, _ = _once(Outcome("hung", reason="nobody knows"), at=1)
    ready = staged(monkeypatch, stage)()
    with pytest.raises(GuestError, match="warm-up with scripted on 2 cores: hung: nobody knows"):
        take_trials(ready, tmp_path, _begin(ready, tmp_path))
    assert len(stage.boots) == 1


def test_two_processes_do_not_take_the_trials_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = staged(monkeypatch, Stage())()
    executor = _begin(ready, tmp_path)
    with locked(tmp_path), pytest.raises(UserError, match="another popcorn is at work"):
        take_trials(ready, tmp_path, executor)


def test_what_was_asked_for_is_read_back_and_can_be_typed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = staged(monkeypatch, Stage())(cores=(1, 2), iterations=2, seed=5, systems=("one",))
    _begin(ready, tmp_path)
    record, source, wanted = read_record(tmp_path)
    assert (source.text, wanted) == (ready.source.text, ready.wanted)
    assert record.command == (
        "popcorn run test --systems one --cores 1,2 --iterations 2 --series 6.12 --seed 5 --accel tcg"
    )


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "is no run of an experiment"),
        (lambda path: path.write_text("{"), "cannot read"),
        (lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9})), "has version 9"),
    ],
)
def test_a_record_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object, told: str
) -> None:
    _begin(staged(monkeypatch, Stage())(), tmp_path)
    assert callable(damage)
    damage(tmp_path / "experiment.json")
    with pytest.raises(UserError, match=told):
        read_record(tmp_path)


def test_a_system_that_idles_for_too_long_hangs_and_a_slow_one_does_not() -> None:
    idle, slow = IdleJudge(60.0, 0.0, 0.0), IdleJudge(60.0, 0.0, 0.0)
    assert [idle.idle(cpu_s=0.0002 * now, now=now) for now in (30.0, 61.0)] == [False, True]
    assert not any(slow.idle(cpu_s=0.1 * now, now=now) for now in range(0, 600, 10))


def test_what_a_system_takes_without_work_is_no_work() -> None:
    judge = IdleJudge(60.0, 0.0, 0.0, idle_share=0.3)
    assert [judge.idle(cpu_s=0.31 * now, now=now) for now in (30.0, 61.0)] == [False, True]
    busy = IdleJudge(60.0, 0.0, 0.0, idle_share=0.3)
    assert not any(busy.idle(cpu_s=1.3 * now, now=now) for now in range(0, 600, 10))


@pytest.mark.parametrize(
    ("rates", "share"),
    [
        pytest.param([0.2, 0.2], 0.2, id="at rest"),
        pytest.param([1.8, 1.2, 0.2, 0.2], 0.2, id="still coming up"),
        pytest.param([2.0, 1.5] * 4, 0.5, id="never at rest"),
    ],
)
def test_the_share_of_a_system_without_work_is_that_at_rest(
    rates: list[float], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    used = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        used[0] += seconds * rates.pop(0)

    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
    booted = cast(Booted, SimpleNamespace(host_cpu_s=lambda: used[0]))
    assert watch.idle_share(booted, 2.0) == pytest.approx(share)
    assert rates == []


def test_time_in_which_nobody_looked_is_no_idle_time() -> None:
    judge = IdleJudge(60.0, 0.0, 0.0)
    judge.forget(500.0)
    assert [judge.idle(cpu_s=0.0, now=now) for now in (550.0, 561.0)] == [False, True]


def test_a_workload_that_waits_forever_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()

    def wait(booted: Booted, shares: Sequence[Share]) -> Outcome:
        stage.stopped.wait(60)
        raise GuestError("the connection broke")

    stage.script = wait
    monkeypatch.setattr(watch, "_LOOK_S", 0.01)
    ready = staged(monkeypatch, stage)()
    booted = FakeBooted(ready.systems["one"].kernels("all"), stage)
    outcome = supervised(ready.workloads["scripted"], booted, [], timeout_s=600, stall_s=0.1)
    assert (outcome.status, outcome.reason) == (
        "hung",
        "the system was idle for 0.1 s: it took 0.0 s of CPU time, and 0.0 s is what it takes without work",
    )
    assert stage.stopped.is_set()
