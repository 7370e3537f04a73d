# SPDX-License-Identifier: Apache-2.0
"""What becomes of a test, and the exit status that this comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from popcorn.errors import CheckFailed, FlakyError, HostError
from popcorn.junit import LOST

CONFIDENCE = 0.95
VERDICT = "popcorn_verdict"
"""The attribute of a report of pytest's with a `TestVerdict` as a dictionary."""


class Outcome(StrEnum):
    """What a test came to, with all its runs."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    """Each time that it could be run."""
    FLAKY = "flaky"
    """In some runs and not in others, each on a machine of its own."""
    LOST = "infrastructure"
    """The host or QEMU failed, also on fresh machines: nothing is known."""


# The worst first: what is known to be broken stays so, whatever else could not be found out.
_STATUSES = {
    Outcome.FAILED: CheckFailed.exit_status,
    Outcome.LOST: HostError.exit_status,
    Outcome.FLAKY: FlakyError.exit_status,
}


def exit_status(outcomes: Iterable[Outcome]) -> int:
    """The exit status of a command that found these: 1 failed, else 3 infrastructure, else 4 flaky, else 0."""
    found = set(outcomes)
    return next((status for outcome, status in _STATUSES.items() if outcome in found), 0)


@dataclass(frozen=True)
class Rate:
    """How often something fails, with an interval that holds the truth with 95 % confidence (Clopper-Pearson)."""

    fails: int
    runs: int
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.fails} of {self.runs} repetitions failed: {self.fails / self.runs:.0%}, "
            f"95 % interval {self.low:.0%} to {self.high:.0%}"
        )


def failure_rate(fails: int, runs: int) -> Rate:
    """Of at least one run. The runs must not have been chosen by their results: the failure that made somebody
    repeat a test is not among them."""
    # Not scipy.stats, which takes a second to import.
    from scipy.special import betaincinv

    beyond = (1 - CONFIDENCE) / 2
    low = betaincinv(fails, runs - fails + 1, beyond) if fails else 0.0
    high = betaincinv(fails + 1, runs - fails, 1 - beyond) if fails < runs else 1.0
    return Rate(fails, runs, float(low), float(high))


@dataclass(frozen=True)
class TestVerdict:
    """What a test came to. As a report's attribute it travels between processes as a dictionary."""

    __test__ = False

    test: str
    """Its node id."""
    outcome: Outcome
    title: str = ""
    """Of the failure, the same for the same fault; or why it was skipped."""
    elapsed_s: float = 0.0
    fails: int = 0
    runs: int = 0
    """Repetitions of a test that failed, without those that were lost."""
    lost: tuple[str, ...] = ()
    """Titles of what the host did to it."""
    text: str = ""
    """What is to be read of a failure."""

    @property
    def rate(self) -> Rate | None:
        return failure_rate(self.fails, self.runs) if self.runs else None

    @property
    def name(self) -> str:
        """Without the folders."""
        file, colons, rest = self.test.partition("::")
        return f"{file.rpartition('/')[2]}{colons}{rest}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"outcome": str(self.outcome), "lost": list(self.lost)}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> TestVerdict:
        known = {field.name: found[field.name] for field in fields(cls) if field.name in found}
        return cls(**known | {"outcome": Outcome(found["outcome"]), "lost": tuple(found.get("lost", ()))})


def headline(verdict: TestVerdict) -> str:
    """What stands before a failure's message; empty where there is nothing to add."""
    if verdict.outcome is Outcome.LOST:
        return f"{LOST}{len(verdict.lost)} run{'s' * (len(verdict.lost) != 1)}, nothing is known of the kernel"
    if verdict.rate is not None:
        return f"{'flaky' if verdict.outcome is Outcome.FLAKY else 'fails always'}: {verdict.rate}"
    return ""
