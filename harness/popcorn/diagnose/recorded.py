# SPDX-License-Identifier: Apache-2.0
"""A machine's kernels, diagnosed from the folder that it is recorded in, while it runs or afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from popcorn.diagnose.console import Line, read_lines
from popcorn.diagnose.facts import End, Facts, end_of, facts_of
from popcorn.diagnose.reports import find_reports
from popcorn.diagnose.verdict import Diagnosis, diagnose
from popcorn.errors import PopcornError, UserError
from popcorn.machine.lastwords import REGION_DUMP
from popcorn.machine.layout import Region, load_layout
from popcorn.machine.recorded import plan_of, read_log, recorded_events
from popcorn.plan.model import Plan

_HEADER = "popcorn.h"
_LAUNCH_FAILURE = re.compile(r"popcorn-launch: (\d+) failed: (.*)")
_TROUBLE = re.compile(r"(?:recording in .* stopped|nothing is recorded|the last words could not be saved): .*")


@dataclass(frozen=True)
class MachineDiagnosis:
    """What became of a machine's kernels; and of what carries them, if that failed."""

    run_dir: Path
    kernels: tuple[Diagnosis, ...]
    infrastructure: str = ""
    """Why nothing, or not all, is known of the kernels: QEMU, the host or the disk failed."""

    @property
    def crashed(self) -> list[Diagnosis]:
        return [kernel for kernel in self.kernels if not kernel.in_order]


def diagnose_run(run_dir: Path, *, now_s: float | None = None, region: Region | None = None) -> MachineDiagnosis:
    """Diagnose all kernels of a run.

    Args:
        now_s: what the machine's clock says, if it is up.
        region: the shared region, if the machine is up; it is newer than what was recorded.

    Raises:
        UserError: nothing was recorded there.
    """
    plan = plan_of(run_dir)
    events = recorded_events(run_dir)
    primary = plan.primary.id
    lives = facts_of(events, [partition.id for partition in plan.partitions], primary)
    end = end_of(events, live=now_s is not None)
    if not (run_dir / _HEADER).is_file():
        # A kernel without Popcorn says nothing of itself.
        lives[primary] = [replace(lives[primary][-1], state="running", stage="user")]
    region = region if region is not None else _saved_region(run_dir, plan)
    if region is not None and region.formatted():
        lives = {id: _with_newest(known, region) for id, known in lives.items()}
    consoles = {id: _console(run_dir, id) for id in lives}
    serial = _console(run_dir, "serial")
    if len(find_reports(serial)) > len(find_reports(consoles[primary])) or not consoles[primary]:
        consoles[primary] = serial
    for line in consoles[primary]:
        failure = _LAUNCH_FAILURE.search(line.text)
        of = lives.get(int(failure[1])) if failure else None
        # One that failed before the latest life began is history.
        if failure and of and line.time_s >= of[-1].loaded_at_s:
            of[-1] = replace(of[-1], launch_failure=failure[2].strip())
    until_s = _end_s(end, events) if now_s is None else now_s
    return MachineDiagnosis(
        run_dir=run_dir,
        kernels=tuple(diagnose(lives[id], consoles[id], end, until_s) for id in sorted(lives)),
        infrastructure=_infrastructure(run_dir, end),
    )


def _saved_region(run_dir: Path, plan: Plan) -> Region | None:
    try:
        content = (run_dir / REGION_DUMP).read_bytes()
        return Region(load_layout(run_dir / _HEADER), content, plan.region.start)
    except (OSError, PopcornError):
        return None


def _with_newest(lives: list[Facts], region: Region) -> list[Facts]:
    try:
        slot = region.slot(lives[-1].id)
    except PopcornError:
        return lives
    if slot.generation != lives[-1].generation:
        return lives
    return [*lives[:-1], replace(lives[-1], state=slot.state, stage=slot.stage, reason=slot.reason)]


def _console(run_dir: Path, name: int | str) -> list[Line]:
    try:
        return read_lines(read_log(run_dir, name))
    except UserError:
        return []


def _end_s(end: End | None, events: Sequence[dict[str, object]]) -> float:
    if end is not None and end.at_s:
        return end.at_s
    return max((float(str(event.get("t", 0.0))) for event in events), default=0.0)


def _infrastructure(run_dir: Path, end: End | None) -> str:
    if end is not None and end.infrastructure:
        return end.reason
    try:
        log = (run_dir / "supervisor.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = _TROUBLE.search(log)
    return found[0] if found else ""
