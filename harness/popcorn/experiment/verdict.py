# SPDX-License-Identifier: Apache-2.0
"""Whether data agree with a claim. Nothing is said where an interval does not say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from popcorn.experiment.description import Claim
from popcorn.experiment.estimate import Interval, Ratio, ratio

Answer = Literal["agrees", "differs", "cannot say"]

Key = tuple[str, str, int]
"""System, workload, cores."""


@dataclass(frozen=True)
class AtCores:
    """What one core count says of a claim."""

    workload: str
    cores: int
    answer: Answer
    ratio: Ratio | None
    why: str
    """What keeps it from an answer; empty where there is one."""


@dataclass(frozen=True)
class Verdict:
    """What the data say of a claim."""

    claim: Claim
    answer: Answer
    points: tuple[AtCores, ...]

    @property
    def read_as(self) -> str:
        """The claim as it was judged."""
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in (("≥", self.claim.at_least), ("≤", self.claim.at_most))
            if bound is not None
        ]
        where = {"all": "at all of", "most": "at most of", "any": "at one or more of"}[self.claim.where]
        counts = sorted({point.cores for point in self.points})
        listed = ", ".join(map(str, counts))
        at = f"at {listed} core{'s' if counts != [1] else ''}" if len(counts) == 1 else f"{where} {listed} cores"
        return f"{self.claim.ratio[0]} / {self.claim.ratio[1]} {' and '.join(bounds)} {at}"


def judge(claim: Claim, samples: Mapping[Key, Sequence[float]], workloads: Sequence[str]) -> Verdict:
    """What samples say of a claim.

    Args:
        workloads: those that were measured.
    """
    points: list[AtCores] = []
    for workload in workloads:
        if claim.workload is None or f"{workload}.".startswith(f"{claim.workload}."):
            counts = claim.cores or sorted({key[2] for key in samples if key[1] == workload and key[0] in claim.ratio})
            points += [_at(claim, samples, workload, cores) for cores in counts]
    return Verdict(claim, _together(claim.where, [point.answer for point in points]), tuple(points))


def _at(claim: Claim, samples: Mapping[Key, Sequence[float]], workload: str, cores: int) -> AtCores:
    first, second = (samples.get((system, workload, cores), ()) for system in claim.ratio)
    missing = [name for name, own in zip(claim.ratio, (first, second), strict=True) if not own]
    if missing:
        return AtCores(workload, cores, "cannot say", None, f"{' and '.join(missing)} not measured")
    found = ratio(first, second)
    if found.interval is None:
        return AtCores(workload, cores, "cannot say", found, "one sample has no interval")
    answer = within(found.interval, claim.at_least, claim.at_most)
    why = "the interval reaches beyond a bound" if answer == "cannot say" else ""
    return AtCores(workload, cores, answer, found, why)


def within(interval: Interval, at_least: float | None, at_most: float | None) -> Answer:
    """Whether all of an interval lies within bounds, or all of it outside."""
    low = at_least if at_least is not None else float("-inf")
    high = at_most if at_most is not None else float("inf")
    if low <= interval.low and interval.high <= high:
        return "agrees"
    if interval.high < low or interval.low > high:
        return "differs"
    return "cannot say"


def _together(where: Literal["all", "most", "any"], answers: Sequence[Answer]) -> Answer:
    """What answers at several core counts say of the whole claim."""
    agree, differ, total = answers.count("agrees"), answers.count("differs"), len(answers)
    if not total:
        return "cannot say"
    match where:
        case "all":
            return "differs" if differ else "agrees" if agree == total else "cannot say"
        case "any":
            return "agrees" if agree else "differs" if differ == total else "cannot say"
        case "most":
            return "agrees" if 2 * agree > total else "differs" if 2 * differ >= total else "cannot say"
