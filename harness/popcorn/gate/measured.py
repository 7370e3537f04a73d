# SPDX-License-Identifier: Apache-2.0
"""What a run measured, whoever made it: samples by system, workload, cores and metric."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from popcorn.errors import UserError
from popcorn.experiment.record import RECORD_FILE, read_record
from popcorn.run.manifest import Host, read_manifest
from popcorn.run.results import Measurement, read_results, read_trials


@dataclass(frozen=True, order=True)
class Point:
    """What was measured. A benchmark outside experiments has neither system nor cores."""

    workload: str
    system: str
    cores: int
    metric: str

    def __str__(self) -> str:
        where = f" on {self.cores} core{'s' * (self.cores != 1)} of {self.system}" if self.system else ""
        return f"{self.metric}, {self.workload}{where}"


@dataclass
class Samples:
    """All values of a point, and why there are none where some are missing."""

    unit: str = ""
    less_is_better: bool = True
    main: bool = False
    """Whether it is what the workload is measured for."""
    values: list[float] = field(default_factory=list)
    boots: list[str] = field(default_factory=list)
    """Of each value, the boot in which it was measured."""
    lost: list[str] = field(default_factory=list)
    """Statuses and reasons of trials without a value, but for those that somebody ended."""

    def of_boots(self) -> list[float]:
        """The mean of each boot."""
        found: dict[str, list[float]] = {}
        for value, boot in zip(self.values, self.boots, strict=True):
            found.setdefault(boot, []).append(value)
        return [statistics.fmean(own) for own in found.values()]


@dataclass(frozen=True)
class Measured:
    """A run."""

    run_dir: Path
    host: Host
    accel: str
    points: dict[Point, Samples]


def read_measured(run_dir: Path) -> Measured:
    """Everything that was measured in a run of `popcorn run`, `bench` or `demo`.

    Raises:
        UserError: nothing was.
    """
    found = _of_experiment(run_dir) if (run_dir / RECORD_FILE).is_file() else _of_benchmark(run_dir)
    if not found.points:
        raise UserError(f"nothing was measured in {run_dir}", hint="`popcorn run` and `popcorn bench` measure")
    return found


def _of_experiment(run_dir: Path) -> Measured:
    record, _, _ = read_record(run_dir)
    facts = {one.name: one for one in record.workloads}
    points: dict[Point, Samples] = {}
    for row, measurements in read_trials(run_dir):
        if row.kind == "warm-up":
            continue
        workload = facts[row.workload]
        for one in measurements:
            main = one.metric == workload.metric
            less = workload.less_is_better if main else _less_is_better(one.unit)
            point = Point(row.workload, row.system, row.cores, one.metric)
            why = f"{row.status}: {row.reason}".removesuffix(": ")
            _add(points, point, one, Samples(one.unit, less, main), row.boot, why)
    return Measured(run_dir, record.host, record.accel, points)


def _of_benchmark(run_dir: Path) -> Measured:
    manifest = read_manifest(run_dir)
    points: dict[Point, Samples] = {}
    for one in _whole(read_results(run_dir)):
        point = Point("benchmark", "", 0, one.metric)
        _add(points, point, one, Samples(one.unit, _less_is_better(one.unit), True), "", one.status)
    return Measured(run_dir, manifest.host, manifest.accel, points)


def _whole(measurements: Iterable[Measurement]) -> Iterable[Measurement]:
    return (one for one in measurements if one.kernel is None)


def _add(points: dict[Point, Samples], point: Point, one: Measurement, empty: Samples, boot: str, why: str) -> None:
    if one.kernel is not None:
        return
    samples = points.setdefault(point, empty)
    if one.value is not None:
        samples.values.append(one.value)
        samples.boots.append(boot)
    elif one.status != "killed":
        samples.lost.append(why)


def _less_is_better(unit: str) -> bool:
    """Of rates more is better."""
    return not unit.endswith("/s")
