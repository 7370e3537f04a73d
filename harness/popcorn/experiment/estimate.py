# SPDX-License-Identifier: Apache-2.0
"""What samples say of a mean and of the ratio of two means, with intervals.

From eight samples on the intervals are bootstrapped (bias-corrected for one mean; by percentiles for a ratio, which
has two samples). Of fewer, resampling finds too narrow ones: then they are Student's for a mean, and Welch's on the
logarithms for a ratio, which are wide where samples are few, and right where the logarithms are about normal.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 8
_RESAMPLES = 9_999
_SEED = 1

Method = Literal["bootstrap", "t", "none"]


@dataclass(frozen=True)
class Interval:
    """Where a quantity lies, with 95 % confidence unless another was asked for."""

    low: float
    high: float
    method: Method


@dataclass(frozen=True)
class Estimate:
    """What some samples say of what was measured."""

    samples: tuple[float, ...]
    mean: float
    std: float
    """Of the samples, not of the mean; 0 of a single one."""
    median: float
    interval: Interval | None
    """Of the mean; None of a single sample."""

    @property
    def count(self) -> int:
        return len(self.samples)

    @property
    def outliers(self) -> tuple[float, ...]:
        """Samples beyond one and a half times the quartiles' distance from them; they are in all figures."""
        if self.count < 4:
            return ()
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        reach = 1.5 * (upper - lower)
        return tuple(one for one in self.samples if not lower - reach <= one <= upper + reach)


@dataclass(frozen=True)
class Ratio:
    """How many times the second's mean the first's is."""

    value: float
    interval: Interval | None

    @property
    def differs(self) -> bool:
        """Whether the interval says that the two differ at all."""
        return self.interval is not None and not self.interval.low <= 1.0 <= self.interval.high


def estimate(samples: Sequence[float]) -> Estimate:
    """Of at least one sample."""
    values = tuple(samples)
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return Estimate(values, mean, std, statistics.median(values), _of_mean(values, mean, std))


def ratio(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Of two means of positive samples, at least one each.

    Args:
        confidence: of the interval; who looks at many at once wants more of each.
    """
    value = statistics.fmean(first) / statistics.fmean(second)
    return Ratio(value, _of_ratio(first, second, value, confidence))


def _of_mean(values: tuple[float, ...], mean: float, std: float) -> Interval | None:
    if len(values) < 2:
        return None
    few = len(values) < BOOTSTRAP_FROM
    if not std:
        return Interval(mean, mean, "t" if few else "bootstrap")
    stats, np = _libraries()
    if few:
        low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=std / math.sqrt(len(values)))
        # A time or a rate is not negative, however little is known of it.
        return Interval(max(float(low), 0.0) if min(values) >= 0 else float(low), float(high), "t")
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="BCa",
        random_state=np.random.default_rng(_SEED),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), "bootstrap")


def _of_ratio(first: Sequence[float], second: Sequence[float], value: float, confidence: float) -> Interval | None:
    if min(len(first), len(second)) < 2 or min(*first, *second) <= 0:
        return None
    few = min(len(first), len(second)) < BOOTSTRAP_FROM
    if len(set(first)) == len(set(second)) == 1:
        return Interval(value, value, "t" if few else "bootstrap")
    stats, np = _libraries()
    if few:
        found = stats.ttest_ind(np.log(first), np.log(second), equal_var=False).confidence_interval(confidence)
        return Interval(math.exp(found.low), math.exp(found.high), "t")
    found = stats.bootstrap(
        (first, second),
        lambda one, other, axis=-1: np.mean(one, axis=axis) / np.mean(other, axis=axis),
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(_SEED),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), "bootstrap")


def _libraries() -> tuple[Any, Any]:
    """Imported when they are needed: they take a second."""
    import numpy as np
    from scipy import stats

    return stats, np
