# SPDX-License-Identifier: Apache-2.0
"""What runs of a test told, and which of them show the failure that is sought."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from popcorn.bisect.sequential import Counts
from popcorn.bisect.shift import Shift


class Stage(IntEnum):
    """How far a run got; a failure at one stage says nothing of the next."""

    BUILD = 0
    BOOT = 1
    TEST = 2


@dataclass(frozen=True)
class Run:
    """One run of the test on one candidate."""

    commit: str
    result: Literal["passed", "failed", "lost"]
    """``lost``: the host, QEMU or the harness failed, and the run tells nothing of the kernel."""
    stage: Stage = Stage.TEST
    title: str = ""
    """What the failure goes by: the same for the same fault."""
    elapsed_s: float = 0.0
    value: float | None = None
    """What was measured, where the test is a measurement."""
    folder: str = ""
    """Where its logs are, relative to the search's folder."""


@dataclass(frozen=True)
class Sought:
    """The failure that is looked for.

    ``pattern`` is a regular expression that a title holds; without it, the title is exactly `title`.
    With ``shift`` a run is told by what it measured.
    """

    title: str
    stage: Stage = Stage.TEST
    pattern: str = ""
    shift: Shift | None = None

    def shown_by(self, run: Run) -> bool | None:
        """Whether a run shows the failure; None when it tells nothing of it."""
        if run.result == "lost":
            return None
        if self.shift is not None:
            return None if run.value is None else self.shift.evidence([run.value]) > 0
        if run.result == "passed":
            return False
        if re.search(self.pattern, run.title) if self.pattern else run.title == self.title:
            return True
        # What fails later than this failure shows has got past it.
        return False if run.stage > self.stage else None

    def __str__(self) -> str:
        if self.shift is not None:
            return "{1:g} instead of {0:g}".format(*self.shift.middles)
        return self.title or self.pattern


@dataclass(frozen=True)
class Tally:
    """The runs of one candidate, counted."""

    counts: Counts
    others: tuple[str, ...]
    """The titles of runs that failed for another reason."""
    built: bool
    values: tuple[float, ...]
    """What was measured."""


def tally(runs: Iterable[Run], sought: Sought) -> Tally:
    """Count runs of one candidate by whether they show the failure."""
    fails = passes = 0
    others: list[str] = []
    built = True
    values: list[float] = []
    for run in runs:
        if run.value is not None:
            values.append(run.value)
        shown = sought.shown_by(run)
        if shown is not None:
            fails += shown
            passes += not shown
        elif run.result != "lost":
            others.append(run.title)
            built &= run.stage is not Stage.BUILD
    return Tally(Counts(fails, passes), tuple(others), built, tuple(values))


def commonest(runs: Sequence[Run]) -> Run | None:
    """A failed run with the title that most failed runs have, the first of those seen as often; None without any."""
    failed = [run for run in runs if run.result == "failed"]
    counts = Counter(run.title for run in failed)
    return max(failed, key=lambda run: counts[run.title], default=None)
