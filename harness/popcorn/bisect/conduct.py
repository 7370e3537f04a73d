# SPDX-License-Identifier: Apache-2.0
"""Doing a search: from its folder to its answer, each run kept before the next begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

from popcorn.bisect.actions import Action, Found, Refused, Try
from popcorn.bisect.candidate import require_same_patches
from popcorn.bisect.evidence import Run
from popcorn.bisect.history import History
from popcorn.bisect.journal import Journal
from popcorn.bisect.next import run_search
from popcorn.bisect.search import Search
from popcorn.bisect.shift import Shift
from popcorn.bisect.task import SEARCH_REPOSITORY
from popcorn.bisect.trial import Laboratory, MakePlan

RUNS = "runs"
_GUESSED_S = 60.0


@dataclass(frozen=True)
class Progress:
    """How far a search is, for people."""

    step: Try
    seconds_left: float


def open_search(journal: Journal) -> Search:
    """A search as far as it got. Raises UserError."""
    task = journal.task()
    history = History(journal.folder / SEARCH_REPOSITORY, task.good, task.bad)
    return Search(history, task.terms, journal.runs())


def conduct(
    journal: Journal,
    make_plan: MakePlan,
    *,
    before: Callable[[Progress], None],
    after: Callable[[Try, Run], None],
) -> tuple[Search, Found | Refused]:
    """Go on with a search to its end.

    Args:
        before: told of each run that begins.
        after: told of each run that has ended.

    Raises:
        UserError: another command conducts it, or the test itself is at fault.
    """
    with journal.held():
        require_same_patches(journal.task())
        journal.end(None)
        search = open_search(journal)
        search.forgiven = search.lost_in_a_row()
        laboratory = Laboratory(journal.task(), journal.folder / RUNS, journal.folder / SEARCH_REPOSITORY, make_plan)

        def trial(step: Try) -> Run:
            before(Progress(step, seconds_left(search, step)))
            return laboratory(step, len(search.runs) + 1)

        def told(step: Try, run: Run) -> None:
            journal.add(run)
            after(step, run)

        answer = run_search(search, trial, told)
        journal.end(_as_json(answer))
        return search, answer


def seconds_left(search: Search, step: Try) -> float:
    """About how long a search will take from here."""
    took = [run.elapsed_s for run in search.runs if run.result != "lost"]
    each_s = mean(took) if took else _GUESSED_S
    runs = step.runs * max(1, step.steps) + _confirming(search)
    if step.why in ("bad end", "good end"):
        runs += len(search.history.between()).bit_length() * step.runs
    return runs * each_s


def _confirming(search: Search) -> float:
    if search.rates is None:
        return 4.0
    if isinstance(search.rates, Shift):
        return 2 * search.rates.runs(search.terms.beta)
    return float(search.rates.runs_if_good(search.terms.beta))


def _as_json(answer: Action) -> dict[str, object]:
    if isinstance(answer, Found):
        return {
            "found": list(answer.commits),
            "error": answer.error,
            "confirmed": answer.confirmed,
        }
    assert isinstance(answer, Refused)
    return {"refused": answer.cause, "remedy": answer.remedy, "by_host": answer.by_host}
