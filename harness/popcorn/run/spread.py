# SPDX-License-Identifier: Apache-2.0
"""Several measurements of one thing as three numbers, and numbers as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, least and most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(self.least)}-{figure(self.most)})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def figure(value: float) -> str:
    """A number with as many digits as can mean something."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 0.1:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    if not value:
        return "0"
    # Two digits that count, one of what is very small; and no power of ten.
    return f"{value:.{-math.floor(math.log10(abs(value))) + (abs(value) >= 0.001)}f}"
