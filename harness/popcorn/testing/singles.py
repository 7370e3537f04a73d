# SPDX-License-Identifier: Apache-2.0
"""Tests within a test, each reported by itself: what KUnit and kselftest print becomes results of pytest's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from popcorn.testing import ktap
from popcorn.testing.repeat import SINGLES, Singles
from popcorn.testing.verdict import Outcome, TestVerdict

VERDICT = "popcorn_verdict"
"""The attribute of a report with a `TestVerdict` as a dictionary."""
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


def reports(item: pytest.Item, found: Singles) -> Sequence[pytest.TestReport]:
    """A report for each single result of a test."""
    return [_report(item, path, result) for path, result in found.items()]


def _report(item: pytest.Item, path: tuple[str, ...], result: ktap.Result) -> pytest.TestReport:
    test, bracket, parameters = item.nodeid.partition("[")
    nodeid = f"{'::'.join((test, *(name.replace('::', ' ').replace('[', '(').replace(']', ')') for name in path)))}"
    said = "\n".join([result.remark, *result.diagnostics[-_DIAGNOSTICS:]]).strip()
    outcome = Outcome.SKIPPED if result.status == "skipped" else Outcome.FAILED if result.failed else Outcome.PASSED
    file, line, _ = item.location
    verdict = TestVerdict(
        f"{nodeid}{bracket}{parameters}",
        outcome,
        ktap.title(path, result) if result.failed else result.remark,
        text=said if result.failed else "",
    )
    report = pytest.TestReport(
        nodeid=verdict.test,
        location=(file, line, "::".join(path)),
        keywords={},
        outcome={"passed": "passed", "skipped": "skipped"}.get(outcome, "failed"),  # type: ignore[arg-type]
        longrepr=_longrepr(item, outcome, verdict.title, said),
        when="call",
    )
    setattr(report, VERDICT, verdict.to_dict())
    setattr(report, SINGLE, True)
    return report


def _longrepr(item: pytest.Item, outcome: Outcome, title: str, said: str) -> str | tuple[str, int, str] | None:
    if outcome is Outcome.SKIPPED:
        file, line, _ = item.location
        return file, line or 0, f"Skipped: {title}"
    return f"{title}\n{said}".strip() if outcome is Outcome.FAILED else None


def _unique(path: tuple[str, ...], taken: Singles) -> tuple[str, ...]:
    number = 1
    unique = path
    while unique in taken:
        number += 1
        unique = (*path[:-1], f"{path[-1]} ({number})")
    return unique
