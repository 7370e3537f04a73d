# SPDX-License-Identifier: Apache-2.0
"""The answer for people: one page of Markdown, what is worse first."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import jinja2

from popcorn.ci.found import Found
from popcorn.ci.record import COMPARE, TESTS, Step
from popcorn.experiment.timing import as_time
from popcorn.gate.compare import Finding, Verdict, idle_rules
from popcorn.gate.tell import HEADER, row
from popcorn.testing.verdict import Outcome, TestVerdict

_MOST_ROWS = 50
"""Of each table: a page that takes half a megabyte is shown by nobody."""
_TEXT_CHARS = 3_000
_LINE_CHARS = 500
# Colours, and what moves a cursor, turns the direction of writing, or is no character.
_UNSHOWN = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_WORDS = {0: "fine", 1: "regression", 3: "infrastructure failure", 4: "flaky"}


def render(found: Found) -> str:
    """The page, of what is known by now."""
    record, before = found.record, found.before
    verdicts = found.verdicts
    failed = [one for one in verdicts if one.outcome is Outcome.FAILED]
    old = [one for one in failed if one.test in before and before[one.test].outcome is Outcome.FAILED]
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"cell": cell, "line": line, "as_time": as_time, "cut": _cut}
    template = Path(__file__).with_name("summary.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        record=record,
        typed=shlex.join(record.typed),
        answer=_WORDS[found.status()],
        status=found.status(),
        broken=[one for one in record.steps if one.outcome is Outcome.FAILED and not _told_elsewhere(one)],
        failed=[one for one in failed if one not in old],
        old=old,
        lost=[one for one in record.steps if one.outcome is Outcome.LOST and not _told_elsewhere(one)],
        lost_tests=[one for one in verdicts if one.outcome is Outcome.LOST],
        unended=found.unended,
        idle=idle_rules(found.comparisons.values(), found.job.thresholds) if found.comparisons else [],
        flaky=[(one, _before(one, before)) for one in verdicts if one.outcome is Outcome.FLAKY],
        recovered=[one for one in verdicts if one.lost and one.outcome in (Outcome.PASSED, Outcome.SKIPPED)],
        findings=_findings,
        found=found,
        header=HEADER,
        row=row,
        Verdict=Verdict,
        most=_MOST_ROWS,
        baseline=found.job.wanted.baseline,
    )


def line(text: object) -> str:
    """Text in one line, without what nobody sees and of bounded length: whatever a kernel printed may be in it."""
    found = _UNSHOWN.sub("", " ".join(str(text).split()))
    return found if len(found) <= _LINE_CHARS else f"{found[:_LINE_CHARS]} …"


def cell(text: object) -> str:
    """Text that stands in a table and means what it says; an address in it is no link."""
    escaped = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\|*_`[]~#":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def _told_elsewhere(step: Step) -> bool:
    """One whose parts stand in sections of their own."""
    return step.name == TESTS or step.name.startswith(COMPARE)


def _findings(found: Found, *verdicts: Verdict) -> list[Finding]:
    return [one for comparison in found.comparisons.values() for one in comparison.findings if one.verdict in verdicts]


def _before(verdict: TestVerdict, before: dict[str, TestVerdict]) -> str:
    earlier = before.get(verdict.test)
    if earlier is None:
        return "not known"
    return str(earlier.rate) if earlier.rate is not None else str(earlier.outcome)


def _cut(text: str) -> str:
    """The end of a text, which no fence in it can end."""
    found = text[-_TEXT_CHARS:].replace("```", "'''").splitlines()
    return "\n".join(_UNSHOWN.sub("", one) for one in found)
