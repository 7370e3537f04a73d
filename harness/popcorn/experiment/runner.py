# SPDX-License-Identifier: Apache-2.0
"""Taking all trials of a run that are not taken yet, with progress."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from popcorn import progress
from popcorn.experiment.executor import BootBegun, BootDone, Event, Executor, TrialDone
from popcorn.experiment.ready import Ready
from popcorn.experiment.record import Recorder, done_trials, locked
from popcorn.experiment.schedule import BootJob, remaining
from popcorn.experiment.timing import Forecast, as_time
from popcorn.run.results import RESULTS_FILE, Results, read_trials


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    trials: int
    statuses: Counter[str]
    left_s: float

    def __str__(self) -> str:
        troubled = ", ".join(f"{number} {status}" for status, number in self.statuses.items() if status != "ok")
        return f"{self.done}/{self.trials}{f' ({troubled})' if troubled else ''}, about {as_time(self.left_s)} left"


def take_trials(ready: Ready, run_dir: Path, executor: Executor) -> Counter[str]:
    """Take every trial of a run that is not recorded yet, and record each as soon as it has ended.

    Returns how many trials of the whole run have which status.

    Raises:
        UserError: another process is at work on it.
        PopcornError: a system could not be booted. What was recorded stays.
    """
    with locked(run_dir), Results(run_dir, f"run {ready.source.name}") as results:
        recorder = Recorder(run_dir, results)
        jobs = remaining(ready.jobs, done_trials(run_dir))
        follower = _Follower(ready, run_dir, jobs)
        if not jobs:
            return follower.statuses
        with progress.step(f"running {ready.source.name}: {ready.trials} trials") as step:
            step.update(str(follower.progress()))
            # Closed here and not by the garbage collector, so that machines end with an interrupt.
            with contextlib.closing(_closable(executor, jobs)) as events:
                for event in events:
                    if isinstance(event, BootDone):
                        recorder.boot(event)
                    elif isinstance(event, TrialDone):
                        recorder.trial(event)
                        _tell(event)
                    follower.saw(event)
                    step.update(str(follower.progress()))
        return follower.statuses


def _closable(executor: Executor, jobs: list[BootJob]) -> Generator[Event, None, None]:
    yield from executor.events(jobs)


def _tell(event: TrialDone) -> None:
    if event.outcome.status != "ok":
        trial = event.trial
        progress.note(
            f"warning: {trial.workload} on {trial.cores} cores of {trial.system}, iteration {trial.iteration}: "
            f"{event.outcome.status}: {event.outcome.reason}"
        )


class _Follower:
    """What of the run is left, and how long it will take."""

    def __init__(self, ready: Ready, run_dir: Path, jobs: list[BootJob]) -> None:
        self._trials = ready.trials
        self._forecast = Forecast(ready.systems, ready.workloads)
        self._left = {job.number: list(job.trials) for job in jobs}
        self._jobs = {job.number: job for job in jobs}
        self._booted: int | None = None
        self.statuses: Counter[str] = Counter()
        if (run_dir / RESULTS_FILE).exists():
            for row, _ in read_trials(run_dir):
                if row.kind != "warm-up":
                    self.statuses[row.status] += 1

    def saw(self, event: Event) -> None:
        if isinstance(event, BootDone):
            self._booted = event.job.number
            self._forecast.boot_took(event.job, event.seconds)
        elif isinstance(event, BootBegun):
            self._booted = None
        elif event.kind == event.job.kind:
            self._left[event.job.number].remove(event.trial)
            self.statuses[event.outcome.status] += 1
            self._forecast.trial_took(event.job, event.trial, event.ended - event.begun)

    def progress(self) -> Progress:
        left_s = 0.0
        for number, trials in self._left.items():
            if trials:
                job = self._jobs[number]
                left = replace(job, trials=tuple(trials))
                left_s += self._forecast.of_job_s(left, booted=number == self._booted)
        return Progress(sum(self.statuses.values()), self._trials, self.statuses, left_s)
