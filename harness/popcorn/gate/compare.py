# SPDX-License-Identifier: Apache-2.0
"""Whether a run is worse than another, point by point."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from popcorn.errors import UserError
from popcorn.experiment.estimate import Interval, ratio
from popcorn.gate.measured import Measured, Point, Samples
from popcorn.gate.thresholds import Rule, Thresholds


class Verdict(StrEnum):
    """What a comparison says of a point; the worst first."""

    WORSE = "worse"
    """By more than is allowed: a regression."""
    LOST = "no value any more"
    """It was measured before, and now it fails: a regression too."""
    CANNOT_SAY = "cannot say"
    BETTER = "better"
    SAME = "not worse"
    """Than is allowed."""
    TOLD = "told"
    """It is no reason to fail."""
    MISSING = "not measured"
    """Nobody tried."""

    @property
    def regression(self) -> bool:
        return self in (Verdict.WORSE, Verdict.LOST)


@dataclass(frozen=True)
class Finding:
    """A point of both runs."""

    point: Point
    unit: str
    verdict: Verdict
    base: float | None
    """Means."""
    new: float | None
    samples: tuple[int, int] = (0, 0)
    ratio: float | None = None
    """New to base; more than 1 is better or worse as the metric is."""
    interval: Interval | None = None
    """Of the ratio."""
    rule: Rule | None = None
    why: str = ""
    """What keeps it from an answer, or what happened."""

    @property
    def kind(self) -> str:
        return self.rule.kind if self.rule is not None else "told"


@dataclass(frozen=True)
class Comparison:
    """A run against another."""

    base: Measured
    new: Measured
    findings: tuple[Finding, ...]
    """The regressions first."""
    confidence: float
    """Of each interval."""

    @property
    def regressions(self) -> list[Finding]:
        return [one for one in self.findings if one.verdict.regression]

    def require_common(self) -> None:
        """
        Raises:
            UserError: the new run tried nothing that the base has; that no regression is seen would mean nothing.
        """
        if not any(one.new is not None or one.verdict is Verdict.LOST for one in self.findings):
            raise UserError(
                f"nothing was measured in both {self.base.run_dir.name} and {self.new.run_dir.name}",
                hint="compare runs of one experiment, with the same --class, and with systems and cores in common",
            )


def compare(base: Measured, new: Measured, thresholds: Thresholds) -> Comparison:
    """Judge all that the base has, by the rules."""
    rules = {point: _rule(point, base.points[point], thresholds) for point in base.points}
    obstacle = _obstacle(base, new, thresholds)
    # Of many timed metrics one is beyond a bound by chance sooner than of one (Bonferroni).
    judged = sum(rule is not None and rule.kind == "timed" and point in new.points for point, rule in rules.items())
    confidence = 1 - (1 - thresholds.confidence) / max(1, 0 if obstacle else judged)
    findings = [_finding(point, base, new, rule, obstacle, confidence) for point, rule in rules.items()]
    order = list(Verdict)
    findings.sort(key=lambda one: (order.index(one.verdict), -_by(one), one.point))
    return Comparison(base, new, tuple(findings), confidence)


def idle_rules(comparisons: Iterable[Comparison], thresholds: Thresholds) -> list[str]:
    """The patterns of the user's rules that fit nothing that was compared: a misspelt one judges nothing, and says
    nothing of that."""
    points = {point for one in comparisons for run in (one.base, one.new) for point in run.points}
    own = thresholds.rule[: thresholds.nr_own]
    return [one.metric for one in own if not any(one.fits(point.workload, point.metric) for point in points)]


def _rule(point: Point, samples: Samples, thresholds: Thresholds) -> Rule | None:
    """Figures that come along are judged if they are counted or the user says how."""
    if samples.main or point.metric.startswith(("count.", "host.")):
        return thresholds.of(point.workload, point.metric)
    return thresholds.own_of(point.workload, point.metric)


def _obstacle(base: Measured, new: Measured, thresholds: Thresholds) -> str:
    """Why times of the two runs do not compare; empty if they do."""
    if base.accel != new.accel:
        return f"times of {base.accel} and {new.accel} do not compare"
    if (base.host.name, base.host.cpu, base.host.cores) != (new.host.name, new.host.cpu, new.host.cores):
        return f"times of two hosts ({base.host.name}, {new.host.name}) do not compare"
    if base.accel == "tcg" and not thresholds.emulated_times:
        return "emulated times compare only within one run"
    return ""


def _finding(
    point: Point, base: Measured, new: Measured, rule: Rule | None, obstacle: str, confidence: float
) -> Finding:
    before, after = base.points[point], new.points.get(point)
    if not before.values:
        return Finding(point, before.unit, Verdict.TOLD, None, None, why="the baseline has no value")
    found = Finding(point, before.unit, Verdict.TOLD, _mean(before.values), None, rule=rule)
    if after is None:
        tried = [one for key, one in new.points.items() if replace(key, metric=point.metric) == point and one.lost]
        if tried and before.main:
            return replace(found, verdict=Verdict.LOST, why=tried[0].lost[0])
        return replace(found, verdict=Verdict.MISSING)
    if not after.values:
        lost = bool(after.lost) and before.main
        return replace(
            found, verdict=Verdict.LOST if lost else Verdict.MISSING, why=after.lost[0] if after.lost else ""
        )
    return _judged(found, before, after, rule, obstacle, confidence)


def _judged(
    found: Finding, before: Samples, after: Samples, rule: Rule | None, obstacle: str, confidence: float
) -> Finding:
    base, new = found.base, _mean(after.values)
    found = replace(found, new=new, samples=(len(before.values), len(after.values)))
    judged = rule is not None and rule.kind != "told"
    if base is None or new is None:
        why = "a sample is no finite number"
        return replace(found, verdict=Verdict.CANNOT_SAY if judged else Verdict.TOLD, why=why)
    if before.unit != after.unit:
        why = f"the units differ: {before.unit or 'none'} before, {after.unit or 'none'} now"
        return replace(found, verdict=Verdict.CANNOT_SAY if judged else Verdict.TOLD, why=why)
    interval = None
    if base:
        with warnings.catch_warnings():
            # Of counts that hardly differ scipy says that it is not precise; so little is no matter here.
            warnings.simplefilter("ignore", RuntimeWarning)
            measured = ratio(after.values, before.values, confidence)
        interval = measured.interval
        found = replace(found, ratio=measured.value, interval=interval)
    if rule is None or rule.kind == "told":
        return found
    less = before.less_is_better if rule.better is None else rule.better == "less"
    if rule.kind == "timed" and obstacle:
        return replace(found, verdict=Verdict.CANNOT_SAY, why=obstacle)
    if min(found.samples) < rule.needed:
        few = f"{found.samples[0]} and {found.samples[1]} samples, {rule.needed} are needed on both sides"
        return replace(found, verdict=Verdict.CANNOT_SAY, why=few)
    if rule.kind == "counted":
        verdict = _counted(base, new, interval, rule, less=less)
        why = "the samples show no difference, and might hide one" if verdict is Verdict.CANNOT_SAY else ""
        return replace(found, verdict=verdict, why=why)
    if rule.boots > 1:
        old_boots, new_boots = before.of_boots(), after.of_boots()
        if min(len(old_boots), len(new_boots)) < rule.boots:
            few = f"{len(old_boots)} and {len(new_boots)} boots, {rule.boots} are needed on both sides"
            return replace(found, verdict=Verdict.CANNOT_SAY, why=few)
        interval = ratio(new_boots, old_boots, confidence).interval if base else None
        found = replace(found, interval=interval)
    if interval is None:
        return replace(found, verdict=Verdict.CANNOT_SAY, why="values that are not positive have no ratio")
    verdict = _timed(interval, rule, less=less)
    why = "the interval reaches beyond the bound" if verdict is Verdict.CANNOT_SAY else ""
    return replace(found, verdict=verdict, why=why)


def _counted(base: float, new: float, interval: Interval | None, rule: Rule, *, less: bool) -> Verdict:
    """By the means; where the samples show no difference, whether one beyond the bound could be among them."""
    room = abs(base) * rule.worse + rule.slack
    by = new - base if less else base - new
    if interval is not None and interval.low <= 1.0 <= interval.high:
        most = base * interval.high - base if less else base - base * interval.low
        return Verdict.SAME if most <= room else Verdict.CANNOT_SAY
    return Verdict.WORSE if by > room else Verdict.BETTER if by < -room else Verdict.SAME


def _timed(interval: Interval, rule: Rule, *, less: bool) -> Verdict:
    """By the whole interval of how many times as bad it has become."""
    low, high = (interval.low, interval.high) if less else (1 / interval.high, 1 / interval.low)
    bound = 1 + rule.worse
    if low > bound:
        return Verdict.WORSE
    if high < 1 / bound:
        return Verdict.BETTER
    return Verdict.SAME if high <= bound else Verdict.CANNOT_SAY


def _mean(values: Sequence[float]) -> float | None:
    """None if a sample, or the sum, is no finite number."""
    if not all(map(math.isfinite, values)):
        return None
    try:
        return statistics.fmean(values)
    except OverflowError:
        return None


def _by(found: Finding) -> float:
    return abs(found.ratio - 1) if found.ratio is not None else 0.0
