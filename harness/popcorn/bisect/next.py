# SPDX-License-Identifier: Apache-2.0
"""What a search does next, a pure function of its runs.

A candidate on the way is judged with little evidence, as only the last good and the first bad one carry the answer:
those two are run again until the error bound holds. Should they turn out otherwise, the search goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from popcorn.bisect.actions import Action, Found, Refused, Try
from popcorn.bisect.confirm import confirm
from popcorn.bisect.ends import bad_end, good_end
from popcorn.bisect.evidence import Run
from popcorn.bisect.history import Mark, Next
from popcorn.bisect.search import Search

LOST_IN_A_ROW = 6


def next_action(search: Search) -> Action:
    """What to do."""
    lost = search.lost_in_a_row()
    if lost >= search.forgiven + LOST_IN_A_ROW:
        return Refused(
            f"the last {lost} runs were lost to the host or the machine, not to the kernel: {search.runs[-1].title}",
            "mend that, then go on with --resume",
            by_host=True,
        )
    action = bad_end(search) or good_end(search) or _between(search)
    if isinstance(action, Try) and search.sought is not None:
        return replace(action, until=search.sought.stage)
    return action


def _between(search: Search) -> Action:
    assert search.rates is not None
    marks: list[Mark] = []
    for commit in search.tried():
        if commit not in (search.history.good, search.history.bad):
            verdict = search.verdict(commit)
            if verdict is not None:
                marks.append((commit, verdict))
    asked = search.history.ask(marks)
    if isinstance(asked, Next):
        return Try(asked.commit, "search", asked.steps, search.expected_runs())
    return confirm(search, asked)


def run_search(search: Search, trial: Callable[[Try], Run], told: Callable[[Try, Run], None]) -> Found | Refused:
    """Do what the search asks for until it ends; `told` keeps each run before the next one begins."""
    while isinstance(action := next_action(search), Try):
        run = trial(action)
        told(action, run)
        search.add(run)
    return action
