# SPDX-License-Identifier: Apache-2.0
"""What the figures of benchmarks should be. A missed goal is a finding, not a failure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from popcorn.run.results import Measurement
from popcorn.run.spread import Spread, spread


@dataclass(frozen=True)
class Goal:
    """A bound on the median of a metric."""

    metric: str
    text: str
    relation: str
    """``≤`` or ``≥``."""
    bound: float

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"

    def holds(self, value: float) -> bool:
        return _RELATIONS[self.relation](value, self.bound)


_RELATIONS: dict[str, Callable[[float, float], bool]] = {"≤": operator.le, "≥": operator.ge}

GOALS = (
    Goal("msg.round_trip/call", "message round trip / function call on another CPU", "≤", 1.5),
    Goal("msg.stream/copy.65536", "messages of 64 KiB / copying the same bytes", "≥", 0.5),
    Goal("msg.ipis.0", "IPIs per empty message under load", "≤", 1 / 8),
    Goal("msg.ipis.4096", "IPIs per message of 4 KiB under load", "≤", 1 / 8),
    Goal("msg.ipis.65536", "IPIs per message of 64 KiB under load", "≤", 1 / 8),
    Goal("net.pcn/lo", "TCP between two kernels / inside one kernel", "≥", 0.5),
    Goal("net.pcn/virtio", "TCP between two kernels / between two virtual machines", "≥", 3.0),
)


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured."""

    goal: Goal
    measured: Spread | None
    """None: it was tried, and failed each time."""

    @property
    def met(self) -> bool:
        return self.measured is not None and self.goal.holds(self.measured.median)


def judge(measurements: Sequence[Measurement]) -> list[Verdict]:
    """The goals of whose metrics a measurement was tried."""
    tried = {one.metric for one in measurements if one.kernel is None}
    found = ((goal, samples(measurements, goal.metric)) for goal in GOALS if goal.metric in tried)
    return [Verdict(goal, spread(values) if values else None) for goal, values in found]


def samples(measurements: Sequence[Measurement], metric: str) -> list[float]:
    """All values of a metric of the whole machine."""
    return [one.value for one in measurements if one.metric == metric and one.kernel is None and one.value is not None]
