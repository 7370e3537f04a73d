# SPDX-License-Identifier: Apache-2.0
"""Trials spread over workers: recorded once, wherever they were taken, and whoever died meanwhile."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from dask_fakes import Fakes
from distributed import LocalCluster
from experiment_fakes import DESCRIPTION, Stage, staged
from forks import serve_forks
from some_run import manifest

from popcorn.errors import UserError
from popcorn.experiment import dispatch
from popcorn.experiment.dispatch import DaskExecutor, Sorter
from popcorn.experiment.executor import BootDone, TrialDone
from popcorn.experiment.protocols import Outcome
from popcorn.experiment.record import begin_record
from popcorn.experiment.runner import take_trials
from popcorn.experiment.schedule import BootJob, Trial
from popcorn.experiment.worker import Order, Recorded, carry_out, pack
from popcorn.run.manifest import code_commit
from popcorn.run.results import read_trials

POINTS = 2 * 2 * 3
_TRIAL = Trial("one", "scripted", 1, 1)
_JOB = BootJob(1, 0, "one", "all", (_TRIAL,))


@contextmanager
def _cluster(workers: int, folder: Path, *, one_dies: bool = False) -> Iterator[str]:
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        serve_forks()
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
            ) as cluster,
            cluster.get_client() as client,
        ):
            client.register_plugin(Fakes(folder, one_dies=one_dies))
            yield cluster.scheduler_address


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> Path:
    ready = staged(monkeypatch, Stage())(DESCRIPTION.replace("iterations = 3", "iterations = 3\nboots = 2"))
    run_dir = folder / "run"
    begin_record(ready, "tcg", ["popcorn", "run", "test"], run_dir)
    assert take_trials(ready, run_dir, DaskExecutor(ready, "tcg", run_dir / "boots", address)) == {"ok": POINTS}
    return run_dir


class Complaints(logging.Handler):
    """What Dask writes to the terminal of who serves."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def test_each_trial_is_taken_by_some_worker_and_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints = Complaints()
    with _cluster(2, tmp_path) as address:
        logging.getLogger("distributed.core").addHandler(complaints)
        run_dir = _run(tmp_path, monkeypatch, address)
        logging.getLogger("distributed.core").removeHandler(complaints)
    assert complaints.told == []
    rows = [row for row, _ in read_trials(run_dir) if row.kind == "measured"]
    assert len({(row.system, row.cores, row.iteration) for row in rows}) == len(rows) == POINTS
    assert len(list(tmp_path.glob("calls-*"))) == 2, "one of the workers had nothing to do"
    for row in rows:
        assert json.loads((run_dir / row.manifest).read_text())["popcorn"]


def test_the_job_of_a_worker_that_was_killed_is_done_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _cluster(3, tmp_path, one_dies=True) as address:
        run_dir = _run(tmp_path, monkeypatch, address)
    assert (tmp_path / "died").exists()
    rows = [row for row, _ in read_trials(run_dir) if row.kind == "measured"]
    assert len({(row.system, row.cores, row.iteration) for row in rows}) == len(rows) == POINTS
    # A boot that ended in the middle has its folder, beside that of the next attempt.
    assert len({row.boot for row in rows}) == 4 + 1


def _done(folder: str, kind: str = "measured") -> TrialDone:
    return TrialDone(_JOB, folder, _TRIAL, kind, Outcome("ok"), "host", 1.0, 2.0)  # type: ignore[arg-type]


def test_what_a_second_attempt_tells_again_is_no_news(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path)
    folders = []
    for attempt in ("first", "second"):
        booted = sorter.sort(attempt, BootDone(_JOB, "001-one", manifest(), 1.0))
        assert isinstance(booted, BootDone)
        folders.append(booted.folder)
        news = sorter.sort(attempt, _done("001-one"))
        assert (news is not None) == (attempt == "first")
    assert folders == ["001-one", "001-one-2"]
    warm_up = sorter.sort("second", _done("001-one", "warm-up"))
    assert warm_up is not None
    assert warm_up.folder == "001-one-2"  # type: ignore[union-attr]


def test_what_a_boot_recorded_goes_into_its_folder_here(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "console").mkdir(parents=True)
    (there / "console" / "0.log").write_text("hello")
    sorter = Sorter(here)
    sorter.sort("a", BootDone(_JOB, "001-one", manifest(), 1.0))
    assert sorter.sort("a", Recorded("001-one", pack(there))) is None
    assert (here / "001-one" / "console" / "0.log").read_text() == "hello"


def test_a_worker_with_other_code_refuses() -> None:
    order = Order(None, None, None, "tcg", _JOB, "another")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the run has another"):
        carry_out(order, lambda event: None, lambda: False)


def test_a_scheduler_that_is_not_there_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_CONNECT_S", 0.3)
    with pytest.raises(UserError, match="no address"):
        dispatch.connect("host-without-port")
    with pytest.raises(UserError, match="nobody answers"):
        dispatch.connect("tcp://127.0.0.1:1")


def test_a_scheduler_without_workers_is_told(tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=0, processes=True, dashboard_address=None, host="127.0.0.1") as cluster,
        pytest.raises(UserError, match="has no workers"),
    ):
        dispatch.connect(cluster.scheduler_address)


def test_the_commit_is_that_of_the_code_that_runs_whatever_is_committed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun_with = code_commit()
    monkeypatch.setattr("popcorn.run.manifest.run", lambda words: pytest.fail(f"asked again: {words}"))
    assert code_commit() == begun_with


@pytest.mark.parametrize(("number", "told"), [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "interrupted")])
def test_a_worker_that_is_told_to_end_does_so_without_a_word_too_many(
    tmp_path: Path, number: signal.Signals, told: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    said = tmp_path / "said"
    with said.open("w") as out:
        words = ["env", "--default-signal=INT", sys.executable, "-m", "popcorn", "worker", "--serve", address]
        process = subprocess.Popen(words, stderr=out)
    try:
        deadline = time.monotonic() + 240
        while "is at work" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, "it did not come up within four minutes"
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    finally:
        process.kill()
    first, second, last = filter(None, said.read_text().splitlines())
    assert "working for" in first
    assert "is at work" in second
    assert last == f"popcorn: {told}"
