# SPDX-License-Identifier: Apache-2.0
"""JUnit reports: adding them up, and writing those that no test runner writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from popcorn.files import write_atomic

# XML 1.0 cannot say these, not even escaped; colours go first, as wholes.
_NOT_XML = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

LOST = "infrastructure failure in "
"""What the message of a test holds that the host or QEMU lost in all its runs."""


@dataclass(frozen=True)
class Case:
    """One thing that was checked."""

    name: str
    output: str
    passed: bool
    elapsed_s: float
    told_as: Literal["failure", "error", "skipped"] = "failure"
    """One that did not pass; an error is nobody's failure but the host's."""


@dataclass(frozen=True)
class Totals:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    elapsed_s: float = 0.0

    def summary_line(self) -> str:
        """The line with which pytest would end a run of all of them."""
        counts = (("failed", self.failed), ("passed", self.passed), ("skipped", self.skipped), ("error", self.errors))
        text = ", ".join(f"{count} {name}" for name, count in counts if count) or "no tests ran"
        return f" {text} in {self.elapsed_s:.2f}s ".center(80, "=")


def total(reports: Iterable[Path]) -> Totals:
    """The sum of JUnit reports."""
    passed = failed = errors = skipped = 0
    elapsed_s = 0.0
    for report in reports:
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            tests, bad, broken, left_out = (
                int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            )
            passed += tests - bad - broken - left_out
            failed += bad
            errors += broken
            skipped += left_out
            elapsed_s += float(suite.get("time", 0))
    return Totals(passed, failed, errors, skipped, elapsed_s)


def only_lost(reports: Iterable[Path]) -> bool:
    """Whether tests did not pass, and all of them because the host or QEMU failed."""
    verdicts = [
        verdict.get("message", "")
        for report in reports
        for case in ElementTree.parse(report).getroot().iter("testcase")
        for verdict in case
        if verdict.tag in ("failure", "error")
    ]
    return bool(verdicts) and all(LOST in message for message in verdicts)


def is_whole(report: Path) -> bool:
    """Whether a report is there and can be read: who writes it may have been killed, or have filled the disk."""
    try:
        return ElementTree.parse(report).getroot().tag in ("testsuites", "testsuite")
    except (OSError, ElementTree.ParseError):
        return False


def write(path: Path, suite: str, cases: Sequence[Case]) -> None:
    """Write a JUnit report of some cases."""
    root = ElementTree.Element("testsuites")
    counts = Counter(case.told_as for case in cases if not case.passed)
    element = ElementTree.SubElement(
        root,
        "testsuite",
        name=suite,
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
        time=f"{sum(case.elapsed_s for case in cases):.3f}",
    )
    for case in cases:
        name = _NOT_XML.sub("", case.name)
        entry = ElementTree.SubElement(element, "testcase", classname=suite, name=name, time=f"{case.elapsed_s:.3f}")
        if not case.passed:
            output = _NOT_XML.sub("", case.output)
            first = output.strip().partition("\n")[0]
            message = f"{name} failed" if case.told_as == "failure" else first
            ElementTree.SubElement(entry, case.told_as, message=message).text = output
    write_atomic(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")
