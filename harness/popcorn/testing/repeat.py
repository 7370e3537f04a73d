# SPDX-License-Identifier: Apache-2.0
"""Running a test as often as its verdict needs.

A run that the host lost says nothing: it is taken again on a fresh machine. One that failed is repeated, if that is
asked for, each time on a fresh machine, to tell a test that always fails from one that sometimes does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from popcorn.testing.evidence import Evidence
from popcorn.testing.ktap import Result
from popcorn.testing.verdict import Outcome, TestVerdict

Singles = dict[tuple[str, ...], Result]
"""Results within a test, by the names above them and their own."""

EVIDENCE = pytest.StashKey[list[Evidence]]()
"""What the run that goes on tells of its failures."""
SINGLES = pytest.StashKey[Singles]()
"""The results within it."""
RUN_DIRS = pytest.StashKey[list[Path]]()
"""Where its machines are recorded."""


@dataclass(frozen=True)
class Policy:
    """How often a test is run."""

    lost_retries: int
    """So many runs that the host lost are taken again."""
    repeats: int
    """So many times one that failed is repeated."""


@dataclass(frozen=True)
class Run:
    """One run of a test."""

    reports: Sequence[pytest.TestReport]
    evidence: Sequence[Evidence] = ()
    """Of each report that failed."""
    singles: Singles = field(default_factory=dict)

    @property
    def own_failure(self) -> bool:
        """Whether the test itself failed, whatever single results there are."""
        return any(report.failed for report in self.reports)

    @property
    def failed(self) -> bool:
        return self.own_failure or any(result.failed for result in self.singles.values())

    @property
    def lost(self) -> bool:
        """Whether it failed, and none of its failures is anybody's but the host's."""
        # One that is missing tells of an end, and whose that was is told elsewhere.
        own = any(result.failed and result.status != "missing" for result in self.singles.values())
        return bool(self.evidence) and all(one.lost for one in self.evidence) and not own

    @property
    def title(self) -> str:
        """Of the worst failure."""
        # One that should have failed and did not has no error that tells anything.
        told = [one.title for one in sorted(self.evidence, key=lambda one: one.lost)]
        told += [report.longreprtext.partition("\n")[0] for report in self.reports if report.failed]
        return next(iter(told), "")


@dataclass(frozen=True)
class Judged:
    """A test with all its runs."""

    run: Run
    """The one that stands for all of them."""
    verdict: TestVerdict
    single_fails: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """Of the single results that failed: in how many repetitions they did so again, or were not there."""
    repetitions: int = 0


def run_item(item: pytest.Item, nextitem: pytest.Item | None) -> Run:
    """Run a test once, from the fixtures that are up."""
    item._report_sections.clear()
    told: list[Evidence] = []
    found: Singles = {}
    item.stash[EVIDENCE], item.stash[SINGLES], item.stash[RUN_DIRS] = told, found, []
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    return Run(reports, tuple(told), found)


def tear_down_all(item: pytest.Item) -> None:
    """End everything that tests share, the machine too, so that the next run makes it anew."""
    # What cannot be ended in order is the host's trouble, and the test was not in it.
    with contextlib.suppress(Exception):
        item.session._setupstate.teardown_exact(None)


def judged(test: str, policy: Policy, run: Callable[[], Run], fresh: Callable[[], None]) -> Judged:
    """Run a test as often as it needs.

    Args:
        run: runs it once.
        fresh: called before each run but the first.
    """
    lost: list[str] = []

    def again() -> Run:
        fresh()
        return run()

    first = run()
    while first.lost and len(lost) < policy.lost_retries:
        lost.append(first.title)
        first = again()
    elapsed_s = sum(report.duration for report in first.reports)
    if first.lost:
        return Judged(first, TestVerdict(test, Outcome.LOST, first.title, elapsed_s, lost=(*lost, first.title)))
    single_fails = {path: 0 for path, result in first.singles.items() if result.failed}
    fails = runs = 0
    for _ in range(policy.repeats if first.failed else 0):
        repeated = again()
        if repeated.lost:
            lost.append(repeated.title)
            continue
        runs += 1
        fails += repeated.own_failure
        for path in single_fails:
            single_fails[path] += path not in repeated.singles or repeated.singles[path].failed
    if first.own_failure:
        outcome = Outcome.FLAKY if fails < runs else Outcome.FAILED
        verdict = TestVerdict(test, outcome, first.title, elapsed_s, fails, runs, tuple(lost))
    else:
        skipped = any(report.skipped for report in first.reports)
        outcome = Outcome.SKIPPED if skipped else Outcome.PASSED
        verdict = TestVerdict(test, outcome, _reason(first) if skipped else "", elapsed_s, lost=tuple(lost))
    return Judged(first, verdict, single_fails, runs)


def _reason(run: Run) -> str:
    longrepr = next((report.longrepr for report in run.reports if report.skipped), None)
    return str(longrepr[2]).removeprefix("Skipped: ") if isinstance(longrepr, tuple) else ""
