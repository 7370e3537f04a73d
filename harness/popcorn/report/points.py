# SPDX-License-Identifier: Apache-2.0
"""What the trials of a run say: estimates, ratios, counts and verdicts. Only trials that are ok are in any of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from popcorn.experiment.counters import METRICS
from popcorn.experiment.description import Experiment, read_experiment
from popcorn.experiment.estimate import Estimate, Ratio, estimate, ratio
from popcorn.experiment.record import RunRecord, WorkloadFacts, read_record
from popcorn.experiment.verdict import Key, Verdict, judge
from popcorn.run.manifest import read_manifest
from popcorn.run.results import Measurement, TrialRow, read_trials
from popcorn.run.spread import figure

T = TypeVar("T")
Trials = Sequence[tuple[TrialRow, Sequence[Measurement]]]
BASELINE = "smp"


@dataclass(frozen=True)
class Spent:
    """Where a run's time went, seconds."""

    all_s: float
    """From the first step of each boot to the end of its last trial."""
    trials_s: float
    """Of that, in trials, and not in boots and warm-ups."""
    workloads_s: float
    """Of that, while workloads ran in the kernels, as far as they tell."""


@dataclass(frozen=True)
class RunData:
    """A run of an experiment, read."""

    run_dir: Path
    record: RunRecord
    experiment: Experiment
    trials: Trials
    """The measured ones."""
    counted_trials: Trials
    """Those in which instructions were counted, and nothing was measured."""
    warm_ups: Trials
    """In no estimate."""

    @cached_property
    def samples(self) -> dict[Key, list[float]]:
        """Values of each workload's own metric, in the order they were taken."""
        found: dict[Key, list[float]] = {}
        for key, value in self._values(None):
            found.setdefault(key, []).append(value)
        return found

    @cached_property
    def estimates(self) -> dict[Key, Estimate]:
        return {key: estimate(values) for key, values in self.samples.items()}

    @property
    def lost(self) -> list[TrialRow]:
        """Trials without a value."""
        return [row for row, _ in (*self.trials, *self.counted_trials) if row.status != "ok"]

    @property
    def missing(self) -> int:
        """Trials that were not taken yet."""
        return self.record.trials - len(self.trials) - len(self.counted_trials)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(row.status for row, _ in self.trials)

    @property
    def baseline(self) -> str | None:
        """What the others are compared with."""
        names = list(self.record.systems)
        if len(names) < 2:
            return None
        return BASELINE if BASELINE in names else names[0]

    @cached_property
    def spent(self) -> Spent:
        """Where the time went; what was between boots is not known."""
        ends: dict[str, float] = {}
        for row, _ in (*self.trials, *self.counted_trials, *self.warm_ups):
            ends[row.boot] = max(ends.get(row.boot, 0.0), row.ended)
        begun = {boot: read_manifest(self.run_dir / boot).begun for boot in ends}
        measured = [(row.ended - row.begun, found) for row, found in self.trials]
        workloads = [one.value or 0.0 for _, found in measured for one in found if one.metric == "wall"]
        return Spent(
            sum(ends[boot] - begun[boot] for boot in ends), sum(time_s for time_s, _ in measured), sum(workloads)
        )

    def workload(self, name: str) -> WorkloadFacts:
        return next(one for one in self.record.workloads if one.name == name)

    def counted(self, metric: str) -> dict[Key, float]:
        """The mean of another metric."""
        found: dict[Key, list[float]] = {}
        for key, value in self._values(metric):
            found.setdefault(key, []).append(value)
        return {key: statistics.fmean(values) for key, values in found.items()}

    def ratios(self) -> list[tuple[Key, Ratio]]:
        """Each system's mean as a multiple of the baseline's."""
        base = self.baseline
        return [
            (key, ratio(values, self.samples[base, key[1], key[2]]))
            for key, values in self.in_order(self.samples)
            if base is not None and key[0] != base and (base, key[1], key[2]) in self.samples
        ]

    def verdicts(self) -> list[Verdict]:
        """What the data say of the description's claims."""
        names = [one.name for one in self.record.workloads]
        return [judge(claim, self.samples, names) for claim in self.experiment.claims]

    def in_order(self, found: dict[Key, T]) -> list[tuple[Key, T]]:
        """By workload, cores and system, in the description's order."""
        workloads = [one.name for one in self.record.workloads]
        systems = list(self.record.systems)
        return sorted(
            found.items(), key=lambda item: (workloads.index(item[0][1]), item[0][2], systems.index(item[0][0]))
        )

    def _values(self, metric: str | None) -> list[tuple[Key, float]]:
        return [
            ((row.system, row.workload, row.cores), one.value)
            for row, found in (*self.trials, *self.counted_trials)
            if row.status == "ok"
            for one in found
            if one.metric == (metric or self.workload(row.workload).metric)
            and one.value is not None
            and one.kernel is None
        ]


def read_run(run_dir: Path) -> RunData:
    """Everything that was recorded of a run.

    Raises:
        UserError: this is no experiment's run, or nothing was measured.
    """
    from popcorn.errors import UserError

    record, source, _ = read_record(run_dir)
    trials = read_trials(run_dir)
    measured, counted, warm_ups = (
        [(row, found) for row, found in trials if row.kind == kind] for kind in ("measured", "counted", "warm-up")
    )
    if not measured:
        raise UserError(
            f"no trial of {run_dir} has ended yet: there is nothing to report",
            hint=f"`popcorn run --resume {run_dir.name}` takes them",
        )
    return RunData(run_dir, record, read_experiment(source), measured, counted, warm_ups)


def relation(found: Ratio, facts: WorkloadFacts) -> str:
    """A ratio to the baseline in words; a difference only where the interval says so."""
    if found.interval is None:
        return "cannot say"
    if not found.differs:
        return "no difference seen"
    if facts.less_is_better:
        return "slower" if found.value > 1 else "faster"
    return "more" if found.value > 1 else "less"


Rows = tuple[list[str], list[list[str]]]


def summary_table(data: RunData) -> Rows:
    """An estimate a line: mean, standard deviation, median, interval."""
    rows = [
        [
            data.workload(key[1]).name,
            key[0],
            str(key[2]),
            str(one.count),
            f"{figure(one.mean)} {data.workload(key[1]).unit}",
            figure(one.std),
            figure(one.median),
            f"{figure(one.interval.low)} – {figure(one.interval.high)}" if one.interval else "-",
            str(len(one.outliers)),
        ]
        for key, one in data.in_order(data.estimates)
    ]
    return ["workload", "system", "cores", "n", "mean", "std", "median", "mean, 95 %", "outliers"], rows


def ratio_table(data: RunData) -> Rows:
    """Each system against the baseline."""
    rows = [
        [
            key[1],
            f"{key[0]} / {data.baseline}",
            str(key[2]),
            figure(found.value),
            f"{figure(found.interval.low)} – {figure(found.interval.high)}" if found.interval else "-",
            relation(found, data.workload(key[1])),
        ]
        for key, found in data.ratios()
    ]
    return ["workload", "ratio", "cores", "value", "95 %", "says"], rows


def counted_table(data: RunData) -> Rows:
    """Means of what was counted; only metrics that something has."""
    found = {metric: data.counted(metric) for metric in (*METRICS, "host.cpu")}
    present = {metric: values for metric, values in found.items() if values}
    keys = {key: key for values in present.values() for key in values}
    titles = {**METRICS, "host.cpu": "host CPU, s"}
    rows = [
        [key[1], key[0], str(key[2]), *(figure(values[key]) if key in values else "-" for values in present.values())]
        for key, _ in data.in_order(keys)
    ]
    return ["workload", "system", "cores", *(titles[metric] for metric in present)], rows
