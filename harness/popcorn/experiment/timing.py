# SPDX-License-Identifier: Apache-2.0
"""How long a run will take: what was seen so far, and guesses for what was not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from popcorn.experiment.protocols import System, Workload
from popcorn.experiment.schedule import BootJob, Trial

_TRIAL_OVERHEAD_S = 1.0
# How many times as long trials and boots take with instructions counted: 2 to 3, and 1.1 to 1.8, were measured.
_COUNTING, _COUNTING_BOOT = 3.0, 1.5


class Forecast:
    """Learns from each trial and each boot."""

    def __init__(self, systems: Mapping[str, System], workloads: Mapping[str, Workload]) -> None:
        self._systems = systems
        self._workloads = workloads
        self._seen: dict[tuple[bool, str, str, int], list[float]] = {}
        self._ratios: list[float] = []
        self._boots: dict[str, list[float]] = {}

    def trial_took(self, job: BootJob, trial: Trial, seconds: float) -> None:
        self._seen.setdefault((job.counting, trial.system, trial.workload, trial.cores), []).append(seconds)
        self._ratios.append(seconds / self._guess_s(job, trial))

    def boot_took(self, job: BootJob, seconds: float) -> None:
        self._boots.setdefault(f"{job.kind} {job.system} {job.state}", []).append(seconds)

    def of_trial_s(self, job: BootJob, trial: Trial) -> float:
        """Seconds that a trial will take: as before, or as guessed, corrected by how wrong the guesses were."""
        seen = self._seen.get((job.counting, trial.system, trial.workload, trial.cores))
        if seen:
            return statistics.median(seen)
        return self._guess_s(job, trial) * (statistics.median(self._ratios) if self._ratios else 1.0)

    def of_boot_s(self, job: BootJob) -> float:
        if seen := self._boots.get(f"{job.kind} {job.system} {job.state}"):
            return statistics.median(seen)
        return self._systems[job.system].estimate_s(job.state) * (_COUNTING_BOOT if job.counting else 1.0)

    def of_job_s(self, job: BootJob, *, booted: bool = False) -> float:
        """Boot and trials, and the untimed ones before them."""
        trials = sum(self.of_trial_s(job, one) for one in job.trials)
        if booted:
            return trials
        first = {one.workload: one for one in sorted(job.trials, key=lambda one: one.cores)}
        return self.of_boot_s(job) + trials + sum(self.of_trial_s(job, one) for one in first.values())

    def of_all_s(self, jobs: Sequence[BootJob]) -> float:
        return sum(map(self.of_job_s, jobs))

    def _guess_s(self, job: BootJob, trial: Trial) -> float:
        workload_s = self._workloads[trial.workload].estimate_s(trial.cores)
        return _TRIAL_OVERHEAD_S + workload_s * (_COUNTING if job.counting else 1.0)


def as_time(seconds: float) -> str:
    """``3 h 20 min``, ``4 min 10 s``, ``12 s``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
