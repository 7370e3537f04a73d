# SPDX-License-Identifier: Apache-2.0
"""Tests within a test, each reported by itself: what KUnit and kselftest print becomes results of pytest's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from popcorn.testing import ktap
from popcorn.testing.repeat import SINGLES, Judged, Singles
from popcorn.testing.verdict import VERDICT, Outcome, TestVerdict, headline

SINGLES_OF = "popcorn_singles"
SINGLE = "popcorn_single"
"""The attribute that tells such a report from those of pytest's own tests."""
_DIAGNOSTICS = 200


class Ktap:
    """The fixture ``ktap``: takes what was printed, and reports each test in it by itself."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __call__(self, lines: Iterable[str], where: str = "") -> list[ktap.Result]:
        """Report all tests in some lines, by their names below this test's.

        Args:
            where: stands before their names, e.g. ``kernel-3``, if several places print the same.

        Returns the outermost results. That there are any is for the test to say.
        """
        results = ktap.parse(lines)
        for path, result in ktap.leaves(results, (where,) if where else ()):
            self._item.stash[SINGLES][_unique(path, self._item.stash[SINGLES])] = result
        return results


def attach(report: pytest.TestReport, item: pytest.Item, judged: Judged) -> None:
    """Have a test's last report carry its single results, as values that travel between processes."""
    # pytest-xdist's workers send reports of no tests but those that were dealt out to them.
    setattr(report, SINGLES_OF, [_single(item, path, result, judged) for path, result in judged.run.singles.items()])


def _single(item: pytest.Item, path: tuple[str, ...], result: ktap.Result, judged: Judged) -> dict[str, Any]:
    test, bracket, parameters = item.nodeid.partition("[")
    names = (name.replace("::", " ").replace("[", "(").replace("]", ")") for name in path)
    fails, runs = (judged.single_fails[path], judged.repetitions) if result.failed else (0, 0)
    outcome = Outcome.SKIPPED if result.status == "skipped" else Outcome.PASSED
    if result.failed:
        outcome = Outcome.FLAKY if fails < runs else Outcome.FAILED
    said = "\n".join([result.remark, *result.diagnostics[-_DIAGNOSTICS:]]).strip()
    return TestVerdict(
        f"{'::'.join((test, *names))}{bracket}{parameters}",
        outcome,
        ktap.title(path, result) if result.failed else result.remark,
        fails=fails,
        runs=runs,
        text=said if result.failed else "",
    ).to_dict()


def reports_of(report: pytest.TestReport) -> list[pytest.TestReport]:
    """A report for each single result that a test's report carries."""
    return [_report(report, TestVerdict.from_dict(one)) for one in getattr(report, SINGLES_OF, ())]


def _report(carrier: pytest.TestReport, verdict: TestVerdict) -> pytest.TestReport:
    file, line, _ = carrier.location
    failed = verdict.outcome in (Outcome.FAILED, Outcome.FLAKY)
    longrepr: str | tuple[str, int, str] | None = None
    if failed:
        told = ": ".join(filter(None, [headline(verdict), verdict.title]))
        longrepr = f"{told}\n{verdict.text}".strip()
    elif verdict.outcome is Outcome.SKIPPED:
        longrepr = (file, line or 0, f"Skipped: {verdict.title}")
    report = pytest.TestReport(
        nodeid=verdict.test,
        location=(file, line, verdict.test.partition("::")[2]),
        keywords={},
        outcome="failed" if failed else "skipped" if verdict.outcome is Outcome.SKIPPED else "passed",
        longrepr=longrepr,
        when="call",
    )
    setattr(report, VERDICT, verdict.to_dict())
    setattr(report, SINGLE, True)
    if hasattr(carrier, "node"):
        # The worker, as pytest-xdist marks its reports.
        report.node = carrier.node  # type: ignore[attr-defined]
    return report


def _unique(path: tuple[str, ...], taken: Singles) -> tuple[str, ...]:
    number = 1
    unique = path
    while unique in taken:
        number += 1
        unique = (*path[:-1], f"{path[-1]} ({number})")
    return unique
