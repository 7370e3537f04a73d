# SPDX-License-Identifier: Apache-2.0
"""Verdicts where people and programs look: in pytest's reports, its summary, and a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from popcorn.testing.singles import reports_of
from popcorn.testing.verdict import VERDICT, Outcome, TestVerdict, headline

_TEXT_CHARS = 20_000
_CRASHED = "???"
"""The phase that pytest-xdist gives the report of a test whose worker ended."""


def marked(reports: Sequence[pytest.TestReport], verdict: TestVerdict) -> list[pytest.TestReport]:
    """Reports of a test with its verdict; the last one carries it.

    What the host lost is an error and no failure: such a report says that the test could not be set up.
    """
    found = list(reports)
    bad = next((report for report in found if report.failed), None)
    if bad is not None and verdict.outcome is Outcome.LOST and bad.when == "call":
        bad.when = "setup"
        found = [report for report in found if report is bad or report.when == "teardown"]
    if bad is not None:
        verdict = replace(verdict, text=_text(bad))
        _add_to_message(bad, headline(verdict))
    setattr(found[-1], VERDICT, verdict.to_dict())
    return found


def folder_name(nodeid: str) -> str:
    """A test's node id as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "-", nodeid).strip("-")[-150:]


def read_verdicts(path: Path) -> list[TestVerdict]:
    """What was written so far; a last line that is no whole one is left out, and whatever else is no verdict."""
    found = []
    if path.is_file():
        # Not splitlines(): what a test says may hold other ends of lines, such as U+2028.
        for line in path.read_bytes().split(b"\n"):
            try:
                found.append(TestVerdict.from_dict(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                continue
    return found


def begun_file(verdicts: Path) -> Path:
    """Where tests are noted as they begin, as long as pytest runs; it stays if pytest is ended before its time."""
    return verdicts.with_name(f"{verdicts.name}.begun")


def read_unended(verdicts: Path) -> list[str]:
    """The tests that had begun when pytest was killed, and have no verdict."""
    path = begun_file(verdicts)
    if not path.is_file():
        return []
    ended = {one.test for one in read_verdicts(verdicts)}
    begun = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [test for test in dict.fromkeys(begun) if test not in ended]


class Verdicts:
    """Gathers the verdicts of all workers, writes each down at once, and tells them at the end."""

    def __init__(self, config: pytest.Config, path: str | None) -> None:
        self._config = config
        self._path = Path(path) if path else None
        self._found: list[TestVerdict] = []
        self._broken = self._uncollected = False
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.open("a").close()
            except OSError as error:
                raise pytest.UsageError(f"--verdicts {path}: {error.strerror}") from error

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._path is not None:
            with begun_file(self._path).open("a", encoding="utf-8", errors="replace") as out:
                out.write(f"{nodeid}\n")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        fields = getattr(report, VERDICT, None)
        if fields is not None:
            self._add(TestVerdict.from_dict(fields))
        elif report.when == _CRASHED:
            title = "pytest's worker ended"
            self._add(TestVerdict(report.nodeid, Outcome.LOST, title, lost=(title,), text=_text(report)))

        for single in reports_of(report):
            self._config.hook.pytest_runtest_logreport(report=single)

    @pytest.hookimpl(trylast=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._uncollected |= report.failed

    def pytest_internalerror(self) -> None:
        self._broken = True

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        # pytest-xdist goes on with the other workers, and calls that a success; some tests have not run.
        if self._broken and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        # With workers pytest runs what it could collect, and calls the rest a test that failed: which it is not.
        elif self._uncollected and exitstatus == pytest.ExitCode.TESTS_FAILED:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        ended = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self._path is not None and not self._broken and exitstatus in ended:
            begun_file(self._path).unlink(missing_ok=True)

    def _add(self, verdict: TestVerdict) -> None:
        self._found.append(verdict)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as out:
                # As ASCII: a test may say what UTF-8 has no bytes for.
                out.write(json.dumps(verdict.to_dict()) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = [line for verdict in self._found if (line := _line(verdict))]
        if lines:
            terminalreporter.section("verdicts")
            for line in lines:
                terminalreporter.line(line)


def _line(verdict: TestVerdict) -> str:
    """What the summary says of a test; nothing of one that went as usual."""
    told = headline(verdict)
    if not told and verdict.lost:
        told = f"{verdict.outcome} after {len(verdict.lost)} runs that the host lost"
    lost = f" (lost: {'; '.join(dict.fromkeys(verdict.lost))})" if verdict.lost and told else ""
    return f"{verdict.name}: {told}{lost}" if told else ""


def _add_to_message(report: pytest.TestReport, told: str) -> None:
    """Put it first where pytest's summary and its JUnit report take the message from."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if told and crash is not None:
        crash.message = f"{told}: {crash.message}"


def _text(report: pytest.TestReport) -> str:
    # What ended it stands at the end.
    return report.longreprtext[-_TEXT_CHARS:]
