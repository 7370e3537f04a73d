# SPDX-License-Identifier: Apache-2.0
"""Telling measurements of two ends apart, each time as far as their spread allows.

A candidate's values go to the one end or to the other; how much better the one division fits than the other is the
likelihood ratio of two normal distributions of one spread, with means and spread as they fit each division best. So few
values, whose spread is hardly known, weigh less than many. Values that are far out count as less far: they say that the
host was disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import mean, median

from popcorn.bisect.sequential import Verdict

CLEAR = 4.0
"""So many standard errors apart, the two ends differ by more than chance."""
_OUTLIER = 3.0
# Of a normal distribution, by its median absolute deviation.
_DEVIATION = 1.4826
# An end that measures the same each time, to the last digit, need not do so in the next boot.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Shift:
    """A measurement that the change shifts: what was measured at both ends."""

    good: tuple[float, ...]
    bad: tuple[float, ...]

    @property
    def middles(self) -> tuple[float, float]:
        """The medians of the good end and of the bad one."""
        return median(self.good), median(self.bad)

    def evidence(self, values: Sequence[float], good: Sequence[float] = (), bad: Sequence[float] = ()) -> float:
        """The logarithm of how much likelier the values are where the change is in than where it is not.

        Args:
            good: what was measured where the change is not in, the end left out; likewise where it is.
        """
        if not values:
            return 0.0
        without, with_it = self._clipped(self.good) + self._clipped(good), self._clipped(self.bad) + self._clipped(bad)
        told = self._clipped(values)
        least = (_LEAST_SPREAD * (self.middles[1] - self.middles[0])) ** 2 * len(without + with_it + told)
        if_good = least + _squares(without + told) + _squares(with_it)
        if_bad = least + _squares(without) + _squares(with_it + told)
        # Two means and a spread are taken from the same values.
        freedom = len(without) + len(with_it) + len(told) - 3
        return freedom / 2 * log(if_good / if_bad)

    def verdict(self, values: Sequence[float], error: float) -> Verdict | None:
        """What the values show, with this probability of error either way; None while it is not enough."""
        enough = log((1 - error) / error)
        found = self.evidence(values)
        return "bad" if found >= enough else "good" if found <= -enough else None

    def error_if(self, wrong: Verdict, values: Sequence[float], good: Sequence[float], bad: Sequence[float]) -> float:
        """How likely at most values come from a candidate that is the other than it seems."""
        found = self.evidence(values, good, bad)
        return exp(min(0.0, found if wrong == "bad" else -found))

    def runs(self, error: float) -> int:
        """So many runs, all as at the good end, show that a candidate is good."""
        for count in range(1, 50):
            if -self.evidence((self.middles[0],) * count) >= log((1 - error) / error):
                return count
        return 50

    def apart(self) -> float:
        """By how many standard errors the two ends differ."""
        good, bad = self._clipped(self.good), self._clipped(self.bad)
        freedom = len(good) + len(bad) - 2
        spread = sqrt((_squares(good) + _squares(bad)) / freedom)
        difference = abs(mean(bad) - mean(good))
        return difference / (spread * sqrt(1 / len(good) + 1 / len(bad))) if spread else inf if difference else 0.0

    def worse_by(self) -> float:
        """By which fraction of the good end the bad one differs."""
        before, after = self.middles
        return abs(after - before) / abs(before) if before else inf if after else 0.0

    def _clipped(self, values: Sequence[float]) -> list[float]:
        low, high = sorted(self.middles)
        deviations = [
            abs(value - middle)
            for end, middle in zip((self.good, self.bad), self.middles, strict=True)
            for value in end
        ]
        reach = _OUTLIER * _DEVIATION * max(median(deviations), _LEAST_SPREAD * (high - low))
        return [min(max(value, low - reach), high + reach) for value in values]


def _squares(values: Sequence[float]) -> float:
    middle = mean(values)
    return sum((value - middle) ** 2 for value in values)
