# SPDX-License-Identifier: Apache-2.0
"""A search among parameters whose test is a die: begun or gone on with, and killed after some runs if asked."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from popcorn.bisect import conduct as conducting
from popcorn.bisect.actions import Found, Refused, Terms, Try
from popcorn.bisect.evidence import Run, Stage
from popcorn.bisect.journal import Journal, begin, create, find
from popcorn.bisect.search import Search
from popcorn.bisect.setup import new_task
from popcorn.bisect.spaces import entries_at
from popcorn.bisect.task import SEARCH_REPOSITORY, PlanWords, Test

GUILTY = "append=guilty"
PARAMETERS = tuple(f"append=word{number}" if number != 11 else GUILTY for number in range(20))


class FakeLaboratory:
    """Fails where the guilty parameter is, at a rate that the run's number decides."""

    die_at: int | None = None
    period = 1
    """One of so many runs fails."""

    def __init__(self, task: object, folder: Path, repository: Path, make_plan: object) -> None:
        self.folder, self.repository = folder, repository

    def __call__(self, step: Try, number: int) -> Run:
        if number == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        place = self.folder / f"{number:04}"
        place.mkdir(parents=True, exist_ok=True)
        fails = GUILTY in entries_at(self.repository, step.commit) and number % self.period == 0
        folder = f"runs/{place.name}"
        return Run(
            step.commit, "failed" if fails else "passed", Stage.TEST, "it broke" if fails else "", 1.5, None, folder
        )


def begun(name: str) -> Journal:
    """A new search."""
    journal = create(name)
    task = new_task(
        journal.folder / SEARCH_REPOSITORY,
        good=None,
        bad=None,
        test=Test("command", "true"),
        terms=Terms(alpha=0.005, beta=0.005),
        series="6.12",
        flavour="default",
        source=None,
        plan=PlanWords(),
        parameters=PARAMETERS,
    )
    begin(journal, task)
    return journal


def conducted(journal: Journal, *, die_at: int | None = None, period: int = 1) -> tuple[Search, Found | Refused]:
    """Go on with a search to its end, or until it kills this process."""
    laboratory: Any = type("Laboratory", (FakeLaboratory,), {"die_at": die_at, "period": period})
    conducting.Laboratory = laboratory  # type: ignore[misc]
    return conducting.conduct(
        journal,
        lambda words: None,
        before=lambda progress: None,
        after=lambda step, run: None,  # type: ignore[arg-type, return-value]
    )


def gone_on(name: str, die_at: int, period: int) -> None:
    """`conducted` for a process of its own, with the search that is on disk."""
    conducted(find(name), die_at=die_at, period=period)
