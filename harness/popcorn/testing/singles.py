# SPDX-License-Identifier: Apache-2.0
"""Tests within a test, each reported by itself: what KUnit and kselftest print becomes results of pytest's."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from popcorn.testing import ktap
from popcorn.testing.repeat import SINGLES, Judged, Singles
from popcorn.testing.verdict import VERDICT, Outcome, TestVerdict, headline

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


def reports(item: pytest.Item, judged: Judged) -> list[pytest.TestReport]:
    """A report for each single result of a test."""
    return [_report(item, path, result, judged) for path, result in judged.run.singles.items()]


def _report(item: pytest.Item, path: tuple[str, ...], result: ktap.Result, judged: Judged) -> pytest.TestReport:
    test, bracket, parameters = item.nodeid.partition("[")
    names = (name.replace("::", " ").replace("[", "(").replace("]", ")") for name in path)
    file, line, _ = item.location
    said = "\n".join([result.remark, *result.diagnostics[-_DIAGNOSTICS:]]).strip()
    fails, runs = (judged.single_fails[path], judged.repetitions) if result.failed else (0, 0)
    outcome = Outcome.SKIPPED if result.status == "skipped" else Outcome.PASSED
    if result.failed:
        outcome = Outcome.FLAKY if fails < runs else Outcome.FAILED
    verdict = TestVerdict(
        f"{'::'.join((test, *names))}{bracket}{parameters}",
        outcome,
        ktap.title(path, result) if result.failed else result.remark,
        fails=fails,
        runs=runs,
        text=said if result.failed else "",
    )
    told = ": ".join(filter(None, [headline(verdict), verdict.title]))
    report = pytest.TestReport(
        nodeid=verdict.test,
        location=(file, line, "::".join(path)),
        keywords={},
        outcome="failed" if result.failed else "skipped" if outcome is Outcome.SKIPPED else "passed",
        longrepr=_longrepr(item, result, f"{told}\n{said}".strip()),
        when="call",
    )
    setattr(report, VERDICT, verdict.to_dict())
    setattr(report, SINGLE, True)
    return report


def _longrepr(item: pytest.Item, result: ktap.Result, told: str) -> str | tuple[str, int, str] | None:
    if result.status == "skipped":
        file, line, _ = item.location
        return file, line or 0, f"Skipped: {result.remark}"
    return told if result.failed else None


def _unique(path: tuple[str, ...], taken: Singles) -> tuple[str, ...]:
    number = 1
    unique = path
    while unique in taken:
        number += 1
        unique = (*path[:-1], f"{path[-1]} ({number})")
    return unique
