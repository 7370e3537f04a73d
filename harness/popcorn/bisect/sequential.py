# SPDX-License-Identifier: Apache-2.0
"""How many runs are enough.

On the way, a candidate is judged by Wald's sequential probability ratio test with the rate that was seen at the bad
end (A. Wald, "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16, 1945).

The answer is judged without that rate, which may have been seen too high by chance: each hypothesis that contradicts
the answer gets the rate that suits it best, the answer a mixture of rates that was fixed before. By Ville's inequality
the ratio of the two bounds the probability of the error, whenever one stops (J. Ville, "Étude critique de la notion de
collectif", 1939).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, lgamma, log
from typing import Literal

Verdict = Literal["good", "bad"]


@dataclass(frozen=True)
class Counts:
    """How many runs showed the failure, and how many did not."""

    fails: int = 0
    passes: int = 0

    @property
    def runs(self) -> int:
        return self.fails + self.passes

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.fails + other.fails, self.passes + other.passes)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.fails - other.fails, self.passes - other.passes)


@dataclass(frozen=True)
class Rates:
    """How often the test shows the failure, per run."""

    bad: float
    """Where the change is in."""
    good: float
    """Where it is not."""

    def __post_init__(self) -> None:
        if not 0 < self.good < self.bad < 1:
            raise ValueError(f"expected 0 < good < bad < 1, found {self}")

    def evidence(self, counts: Counts) -> float:
        """The logarithm of how much likelier the runs are where the change is in than where it is not."""
        return log_likelihood(counts, self.bad) - log_likelihood(counts, self.good)

    def verdict(self, counts: Counts, error: float) -> Verdict | None:
        """What the runs show, with this probability of error either way; None while it is not enough."""
        enough = log((1 - error) / error)
        found = self.evidence(counts)
        return "bad" if found >= enough else "good" if found <= -enough else None

    def runs_if_good(self, error: float) -> int:
        """So many runs, all of which pass, show that a candidate is good."""
        return max(1, ceil(log((1 - error) / error) / -self.evidence(Counts(0, 1))))

    def runs_if_bad(self, error: float) -> float:
        """So many runs are expected to show that one is bad (Wald's approximation)."""
        drift = self.bad * self.evidence(Counts(1, 0)) + (1 - self.bad) * self.evidence(Counts(0, 1))
        return max(1.0, log((1 - error) / error) / drift)


def log_likelihood(counts: Counts, rate: float) -> float:
    """The logarithm of the probability of runs that fail at a rate."""
    return _times_log(counts.fails, rate) + _times_log(counts.passes, 1 - rate)


@dataclass(frozen=True)
class Evidence:
    """The runs that carry an answer."""

    bad: Counts
    """Of all candidates that hold the change, by the answer."""
    noise: float
    """How often the failure is seen where the change is not in."""
    rate: float | None = None
    """How often it is seen where it is in, if that is known."""

    def error_if_bad(self, before: Counts) -> float:
        """How likely at most a candidate that is good by the answer, with these runs, is bad."""
        return self._ratio(self._best(self.bad + before), log_likelihood(before, self.noise))

    def error_if_good(self, first: Counts) -> float:
        """How likely at most the first bad candidate by the answer, with these runs among the others', is good."""
        return self._ratio(self._best(self.bad - first) + log_likelihood(first, self.noise), 0.0)

    def _ratio(self, contradicting: float, good: float) -> float:
        return min(1.0, exp(min(0.0, contradicting - self._mixture() - good)))

    def _best(self, counts: Counts) -> float:
        if self.rate is not None:
            return log_likelihood(counts, self.rate)
        return log_likelihood(counts, counts.fails / counts.runs) if counts.runs else 0.0

    def _mixture(self) -> float:
        """Half the weight on a failure that always shows, half on Jeffreys' prior."""
        if self.rate is not None:
            return log_likelihood(self.bad, self.rate)
        fails, passes = self.bad.fails + 0.5, self.bad.passes + 0.5
        jeffreys = exp(lgamma(fails) + lgamma(passes) - lgamma(fails + passes) - 2 * lgamma(0.5))
        return log(0.5 * (not self.bad.passes) + 0.5 * jeffreys)


def rate_below(passes: int, error: float) -> float:
    """The rate that is not reached, but for `error`, when so many runs all passed."""
    return float(1 - error ** (1 / passes)) if passes else 1.0


def _times_log(count: int, probability: float) -> float:
    if not count:
        return 0.0
    return count * log(probability) if probability > 0 else -1e9
