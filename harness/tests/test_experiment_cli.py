# SPDX-License-Identifier: Apache-2.0
"""``popcorn run``, ``report`` and ``results`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from experiment_fakes import DESCRIPTION, Stage, fine, staged

from popcorn import hostpackages
from popcorn.cli.main import main
from popcorn.dirs import runs_dir
from popcorn.errors import HostError
from popcorn.experiment import executor
from popcorn.experiment.protocols import Booted, Outcome, Share
from popcorn.experiment.record import done_trials
from popcorn.machine import kvm
from popcorn.run.results import Results

TRIALS = 2 * 2 * 3


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    staged(monkeypatch, stage)
    monkeypatch.setattr(hostpackages, "ensure", lambda verb: None)
    # What is looked at for two seconds at each boot uses nothing.
    monkeypatch.setattr(executor, "idle_share", lambda booted, seconds: 0.0)
    return stage


@pytest.fixture
def description(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(DESCRIPTION, encoding="utf-8")
    return str(path)


def _run(*words: str) -> int:
    return main(["run", *words])


def _told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("stage")
def test_a_run_ends_with_a_table_and_a_report(description: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(description, "--accel", "tcg") == 0
    told = capsys.readouterr().out
    assert "other / one" in told
    report = Path(told.rsplit("report: ", 1)[1].strip())
    assert report.is_file()
    assert report.parent.name.endswith("-mine")


def test_a_run_that_is_interrupted_tells_how_to_go_on(
    stage: Stage, description: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(booted: Booted, shares: Sequence[Share]) -> Outcome:
        if len(stage.taken) == 5:
            raise KeyboardInterrupt
        return fine(booted, shares)

    stage.script = interrupted
    assert _run(description, "--accel", "tcg") == 130
    name = capsys.readouterr().err.split("popcorn run --resume ")[1].split("`")[0]
    stage.script = fine
    assert _run("--resume", name, "--dry-run", "--json") == 0
    assert len(_told(capsys)["trials"]) == TRIALS - 4 + 1
    assert _run("--resume", name, "--json") == 0
    told = _told(capsys)
    assert told["trials"] == {"ok": TRIALS}
    assert len(done_trials(Path(told["run"]))) == TRIALS


def test_a_run_in_which_a_trial_was_void_has_failed(
    stage: Stage, description: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def void(booted: Booted, shares: Sequence[Share]) -> Outcome:
        return Outcome("void", reason="wrong") if len(stage.taken) == 4 else fine(booted, shares)

    stage.script = void
    assert _run(description, "--accel", "tcg") == 1
    assert f"1 of {TRIALS} trials have no value: 1 void" in capsys.readouterr().err


def test_a_dry_run_boots_nothing_and_leaves_nothing(
    stage: Stage, description: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(description, "--dry-run", "--iterations", "2", "--cores", "1") == 0
    told = capsys.readouterr().out
    assert "4 trials in 2 boots" in told
    assert stage.boots == []
    assert list(runs_dir().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "which experiment?"),
        (("nope",), "unknown experiment 'nope'"),
        (("quick", "--systems", "smp,xen"), "--systems: unknown system 'xen'"),
        (("quick", "--cores", "1,16"), "--cores: 16 cores are asked for, and machine small has 8"),
        (("quick", "--cores", ","), "--cores names nothing"),
        (("quick", "--systems", ""), "--systems names nothing"),
        (("quick", "--series", "9.9"), "there is no series '9.9'"),
        (("quick", "--name", "a/b"), "'a/b' is no name for a machine"),
        (("quick", "--cores", "1;2"), "'1;2' is no number of cores"),
        (("fig13", "--class", "B", "--machine", "small", "--cores", "1"), "takes 1073 MiB"),
        (("--resume", "nothing"), "there is no run 'nothing'"),
        (("--resume", "x", "--seed", "3"), "it takes no experiment and no other options"),
    ],
)
def test_a_mistake_ends_with_status_2(
    stage: Stage, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*words, *(("--dry-run",) if words and "--resume" not in words else ())) == 2
    assert told in capsys.readouterr().err
    assert stage.boots == []


def test_an_empty_set_of_results_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Results(tmp_path, "run"):
        pass
    assert main(["results", "export", str(tmp_path)]) == 2
    assert "there are no measurements to export" in capsys.readouterr().err
    assert main(["results", "query", str(tmp_path / "nowhere"), "SELECT 1"]) == 2
    assert "there is no run" in capsys.readouterr().err


@pytest.mark.usefixtures("stage")
def test_the_last_run_is_reported_by_default_and_asked_in_sql(
    description: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(description, "--accel", "tcg", "--json") == 0
    run_dir = Path(_told(capsys)["run"])
    (run_dir / "report.html").unlink()
    assert main(["report"]) == 0
    assert capsys.readouterr().out.strip() == str(run_dir / "report.html")
    assert main(["results", "query", run_dir.name, "SELECT count(*) AS n FROM trials WHERE kind = 'measured'"]) == 0
    assert capsys.readouterr().out.split() == ["n", str(TRIALS)]


def test_kvm_is_not_taken_where_it_does_not_work(
    stage: Stage, description: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from popcorn.build import kernel

    class Built:
        bzimage = Path("bzImage")

    monkeypatch.setattr(kernel, "build_kernel", lambda series: Built())
    monkeypatch.setattr(kvm, "probe", lambda image: kvm.Verdict(False, "it hangs"))
    assert _run(description, "--accel", "kvm") == 3
    assert "KVM cannot be used on this host: it hangs" in capsys.readouterr().err
    assert stage.boots == []


@pytest.mark.usefixtures("stage")
def test_of_a_complete_run_only_the_report_is_written(
    description: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(description, "--accel", "tcg", "--json") == 0
    run_dir = Path(_told(capsys)["run"])
    (run_dir / "report.html").unlink()

    def refuse(verb: str) -> None:
        raise HostError("a boot wants packages")

    monkeypatch.setattr(hostpackages, "ensure", refuse)
    assert _run("--resume", run_dir.name, "--dry-run") == 0
    assert "nothing left to measure" in capsys.readouterr().out
    assert _run("--resume", run_dir.name) == 0
    assert (run_dir / "report.html").is_file()
    assert _run(description, "--accel", "tcg") == 3
