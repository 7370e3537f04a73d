# SPDX-License-Identifier: Apache-2.0
"""What became of one kernel, from what it printed and what was seen of it from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from popcorn.diagnose.console import Line, lives
from popcorn.diagnose.facts import End, Facts
from popcorn.diagnose.kinds import IN_ORDER, STALLS, Kind
from popcorn.diagnose.reports import Report, cause, find_reports

_USER = "user"
_LAST_WORDS = 5
# A kernel that printed or changed something so recently was on its way when the machine ended.
_ON_ITS_WAY_S = 10.0
# The recorder sees a loaded kernel and its banner in one look when both are fast.
_ONE_LOOK_S = 1.0
# A stall is told after so many seconds; the host must have been slow within them.
_STALL_S = 70.0
_STOPPED = re.compile(r"stopped by kernel \d+")
_GOOD_ORDER = re.compile(r"(?:reboot: )?(?:Restarting system|System halted|Power down|machine restart)")


@dataclass(frozen=True)
class Life:
    """One life of a kernel that had another after it."""

    kind: Kind
    title: str


@dataclass(frozen=True)
class Diagnosis:
    """What became of a kernel."""

    kernel: int
    kind: Kind
    title: str
    """What it goes by among others of its kind: the same for the same fault."""
    state: str
    stage: str
    generation: int
    excerpt: tuple[str, ...] = ()
    """The lines of its console that tell why."""
    also: tuple[str, ...] = ()
    """Titles of what else it reported in this life."""
    earlier: tuple[Life, ...] = ()

    @property
    def in_order(self) -> bool:
        return self.kind in IN_ORDER


def diagnose(history: Sequence[Facts], lines: Sequence[Line], end: End | None, now_s: float) -> Diagnosis:
    """What became of a kernel in its latest life.

    Args:
        history: its lives, the latest last.
        lines: its console, all lives.
        end: how the machine ended; None while it is up.
        now_s: the host's clock at the machine's end, or now.
    """
    *past, (facts, life) = _by_life(history, lines)
    reports = find_reports(life)
    first = cause(reports)
    if first is not None:
        kind, title = first.kind, first.title
        if kind in STALLS and _host_was_slow(first, facts):
            kind, title = Kind.SLOW, f"slow: {title}, and the host gave it too little time"
        excerpt = first.lines
    else:
        kind, title = _without_report(facts, life, end, now_s)
        excerpt = () if kind is Kind.FINE else tuple(line for line in life if line.by_kernel)[-_LAST_WORDS:]
    return Diagnosis(
        kernel=facts.id,
        kind=kind,
        title=title,
        state=facts.state,
        stage=facts.stage,
        generation=facts.generation,
        excerpt=tuple(line.shown() for line in excerpt),
        also=tuple(dict.fromkeys(report.title for report in reports if report.title != title and report is not first)),
        earlier=tuple(_past(facts, life) for facts, life in past),
    )


def _by_life(history: Sequence[Facts], lines: Sequence[Line]) -> list[tuple[Facts, list[Line]]]:
    """Each life with what it printed: nothing, where it did not get so far."""
    found: list[tuple[Facts, list[Line]]] = [(facts, []) for facts in history]
    for life in lives(lines) if lines else []:
        at_s = life[0].time_s + _ONE_LOOK_S
        number = max(n for n, (facts, _) in enumerate(found) if facts.loaded_at_s <= at_s or not n)
        if found[number][1]:
            # Nobody saw it being loaded.
            found.insert(number + 1, (found[number][0], life))
        else:
            found[number] = (found[number][0], life)
    return found


def _past(facts: Facts, life: Sequence[Line]) -> Life:
    if first := cause(find_reports(life)):
        return Life(first.kind, first.title)
    kind, title = _without_report(facts, life, End("down", facts.changed_at_s), facts.changed_at_s + _ON_ITS_WAY_S)
    return Life(kind, "nothing was reported" if kind is Kind.FINE else title)


def _host_was_slow(stall: Report, facts: Facts) -> bool:
    """Whether its CPUs waited for the host while it found itself stalled, and it went on afterwards."""
    if facts.health in ("hung", "silent") or facts.state == "dead":
        return False
    at_s = stall.lines[0].time_s
    return any(begin <= at_s and end >= at_s - _STALL_S for begin, end in facts.slow)


def _without_report(facts: Facts, life: Sequence[Line], end: End | None, now_s: float) -> tuple[Kind, str]:
    if facts.health in ("hung", "silent") and facts.stage == _USER and facts.state != "parked":
        return Kind(facts.health), _HEALTH_TITLES[facts.health]
    if _STOPPED.match(facts.reason):
        return Kind.STOPPED, "stopped by another kernel"
    if facts.state == "parked":
        return Kind.PARKED, f"parked: {facts.reason or 'no reason given'}"
    if facts.state == "dead":
        # Its console may be lost while its slot still says why.
        if facts.reason:
            return Kind.PANIC, f"panic: {facts.reason}"
        return Kind.SILENT, "died without a word"
    if facts.primary and end is not None and (end.reset or end.powered_off):
        return _primary_end(life, end)
    if facts.stage != _USER:
        return _before_user(facts, life, end, now_s)
    if facts.health == "slow":
        return Kind.SLOW, _HEALTH_TITLES["slow"]
    return Kind.FINE, "fine"


_HEALTH_TITLES = {
    "hung": "hung: busy and without a heartbeat",
    "silent": "silent: its CPUs stand still, and its heart does",
    "slow": "slow: the host gives it too little time",
}


def _primary_end(life: Sequence[Line], end: End) -> tuple[Kind, str]:
    if end.powered_off:
        return Kind.PARKED, "powered the machine off"
    if any(_GOOD_ORDER.match(line.text) for line in life if line.by_kernel):
        return Kind.PARKED, "rebooted the machine"
    # A triple fault of any kernel does the same.
    return Kind.SILENT, "the machine was reset without a word (a triple fault of a kernel, or a reset)"


def _before_user(facts: Facts, life: Sequence[Line], end: End | None, now_s: float) -> tuple[Kind, str]:
    if facts.launch_failure:
        return Kind.NEVER_STARTED, f"never started: {facts.launch_failure}"
    last_sign_s = max([facts.changed_at_s, *(line.time_s for line in life[-1:])])
    on_its_way = facts.health == "slow" or now_s - last_sign_s < _ON_ITS_WAY_S
    if facts.health not in ("hung", "silent") and (on_its_way or (end is None and facts.health == "ok")):
        was = "was still booting when the machine ended" if end is not None else "booting"
        return Kind.BOOTING, f"{was}, at stage {facts.stage}"
    if facts.state in ("none", "planned"):
        return Kind.NEVER_STARTED, "never started: nobody launched it" if not facts.primary else "never started"
    how = {"hung": ", hung", "silent": ", silent"}.get(facts.health, "")
    return Kind.NEVER_STARTED, f"never started: {facts.state} at stage {facts.stage}{how}"
