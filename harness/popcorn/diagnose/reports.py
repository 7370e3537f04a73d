# SPDX-License-Identifier: Apache-2.0
"""The reports on a kernel's console, and the one of them that is the cause."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from popcorn.diagnose.console import Line
from popcorn.diagnose.forms import FORMS, Form
from popcorn.diagnose.kinds import STALLS, Kind

_LONGEST_REPORT = 150
_END = re.compile(
    r"---\[ end (?:trace|Kernel panic)|Kernel Offset:|Rebooting in \d+ seconds|(?:popcorn: )?parked: |"
    r"(?:Out of memory: )?Killed process |Memory cgroup out of memory: Kill"
)
# The line that ends the first part of an oops; it is a first line only where that part is missing.
_DIE = re.compile(r"(?:Oops|[a-z][a-z0-9 ]*)(?:: .*)?: [0-9a-f]{4} \[#\d+\]")
# What may stand between an oops's first line and that one.
_DIE_WITHIN = 12
_CRASHES = frozenset({Kind.PANIC, Kind.OOPS, Kind.BUG, Kind.KASAN})
# A kernel goes on after them; what comes so soon after one comes of it.
_LESSER = frozenset({Kind.WARNING, Kind.UBSAN, Kind.LOCKDEP})
_LEADS_TO_S = 10.0
# One stuck CPU is told of by each watchdog in turn.
_SAME_STALL_S = 90.0


@dataclass(frozen=True)
class Report:
    """One report: what it tells, its title, and its lines, those that others printed meanwhile among them."""

    kind: Kind
    title: str
    lines: tuple[Line, ...]
    derived: bool = False


def find_reports(life: Sequence[Line]) -> list[Report]:
    """All reports in one life of a kernel, in the order they were printed."""
    begins: list[tuple[int, Form, re.Match[str]]] = []
    since_fault = _DIE_WITHIN
    for number, line in enumerate(life):
        if not line.by_kernel:
            continue
        since_fault += 1
        for form in FORMS:
            if not (found := form.pattern.match(line.text)):
                continue
            if begins and _goes_on(form, line.text, begins[-1][1], since_fault):
                break
            if form.kind in (Kind.OOPS, Kind.BUG, Kind.KASAN):
                since_fault = 0
            begins.append((number, form, found))
            break
    ends = [begin for begin, _, _ in begins[1:]]
    return [
        _report(life[begin : min(end, begin + _LONGEST_REPORT)], form, found)
        for (begin, form, found), end in zip(begins, [*ends, len(life)], strict=False)
    ]


def _goes_on(form: Form, text: str, before: Form, since_fault: int) -> bool:
    """Whether what looks like a first line belongs to the report before."""
    if form.kind is Kind.OOPS and _DIE.match(text):
        return since_fault <= _DIE_WITHIN and before.kind in (Kind.OOPS, Kind.BUG)
    if form.kind in (Kind.BUG, Kind.WARNING) and before.kind is Kind.BUG:
        # "list_add corruption. …", then "kernel BUG at lib/list_debug.c:29!" or a warning from there.
        return since_fault <= _DIE_WITHIN and "list_debug" in text
    # The process that was killed is named at the report's end.
    return form.kind is before.kind is Kind.OUT_OF_MEMORY and text.startswith(("Out of memory", "Memory cgroup"))


def _report(lines: Sequence[Line], form: Form, found: re.Match[str]) -> Report:
    for number, line in enumerate(lines):
        if number and line.by_kernel and _END.match(line.text):
            lines = lines[: number + 1]
            break
    texts = [line.text for line in lines if line.by_kernel]
    return Report(form.kind, form.title_of(found, texts), tuple(lines), form.derived)


def cause(reports: Sequence[Report]) -> Report | None:
    """The first cause: what the other reports, and the kernel's end, come of.

    - A panic that only tells of what was before it is not its own cause.
    - What stalls is told by clocks, which a slow host deceives too: a crash is surer.
    - A warning that a kernel lived long with did not kill it.
    """
    crash = next((report for report in reports if report.kind in _CRASHES), None)
    before = reports if crash is None else reports[: reports.index(crash)]
    lesser = [report for report in before if report.kind in _LESSER]
    chosen = crash
    if crash is None:
        chosen = _stalled(before) or (lesser[0] if lesser else None)
    elif crash.derived:
        chosen = _stalled(_what_it_tells_of(crash, before)) or (lesser[-1] if lesser else crash)
    if chosen is None:
        return None
    return next((report for report in lesser if _seconds_between(report, chosen) <= _LEADS_TO_S), chosen)


def _what_it_tells_of(panic: Report, before: Sequence[Report]) -> list[Report]:
    kinds = {Kind.OUT_OF_MEMORY} if "Attempted to kill" in panic.title else {*STALLS, Kind.OUT_OF_MEMORY}
    told = [report for report in before if report.kind in kinds]
    if not any(_seconds_between(report, panic) <= _LEADS_TO_S for report in told):
        return []
    return [report for report in told if _seconds_between(report, panic) <= _SAME_STALL_S]


def _stalled(reports: Sequence[Report]) -> Report | None:
    told = [report for report in reports if report.kind in STALLS or report.kind is Kind.OUT_OF_MEMORY]
    if not told or told[0].kind is Kind.OUT_OF_MEMORY:
        return told[0] if told else None
    same = [r for r in told if r.kind in STALLS and _seconds_between(told[0], r) <= _SAME_STALL_S]
    return min(same, key=lambda report: STALLS.index(report.kind))


def _seconds_between(early: Report, late: Report) -> float:
    """Not less than 0: without stamps, whatever precedes a report is near it."""
    begin, end = early.lines[0].stamp_s, late.lines[0].stamp_s
    return max(0.0, end - begin) if begin is not None and end is not None else 0.0
