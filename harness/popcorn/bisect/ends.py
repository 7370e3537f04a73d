# SPDX-License-Identifier: Apache-2.0
"""The two ends of a search: whether they are what the user says, and what the failure looks like."""

from __future__ import annotations

from collections.abc import Sequence

from popcorn.bisect.actions import Action, Refused, Try
from popcorn.bisect.evidence import commonest
from popcorn.bisect.search import ENOUGH_FAILURES, NR_ALWAYS, NR_MEASURED, Search, rates_of
from popcorn.bisect.sequential import rate_below
from popcorn.bisect.shift import Shift


def bad_end(search: Search) -> Action | None:
    """What to do at the bad end; None when it shows the failure as it should."""
    bad, good = search.history.bad, search.history.good
    if search.terms.worse is not None and search.sought is None:
        return _measure(search, good, bad)
    runs = search.runs_of(bad)
    if search.sought is None:
        failed = commonest(runs)
        if failed and len([run for run in runs if run.result == "failed"]) >= NR_ALWAYS:
            return Refused(
                f"the bad end fails, but not with a title that holds {search.terms.pattern!r}: {failed.title}",
                "leave --title out, or give a part of that title",
            )
        if len(runs) >= _tries(search):
            return Refused(
                f"the bad end does not fail: {len(runs)} of {len(runs)} runs passed",
                f"with 95 % confidence it fails in less than {rate_below(len(runs), 0.05):.0%} of the runs; if "
                "that may be, say how often with --flaky-rate",
            )
        return Try(bad, "bad end", runs=NR_ALWAYS)
    counts = search.tally(bad).counts
    if search.rates is None:
        left = (NR_ALWAYS if search.always else ENOUGH_FAILURES) - counts.fails
        return Try(bad, "bad end", runs=left * (counts.runs + 1) / (counts.fails + 1))
    verdict = search.verdict(bad)
    if verdict is None:
        return Try(bad, "bad end", runs=search.expected_runs())
    if verdict != "bad":
        if isinstance(search.rates, Shift):
            return Refused(f"the bad end's measurements disagree: {search.sought}", "name other ends")
        return Refused(
            f"the bad end fails too seldom: {counts.fails} of {counts.runs} runs, where {search.rates.bad:.1%} of "
            f"them were expected, and {search.rates.good:.1%} without the change",
            "leave --flaky-rate out to have it measured, allow more --max-runs, or name a smaller --noise",
        )
    return None


def _tries(search: Search) -> int:
    """So many runs that pass show that the bad end is none."""
    if search.terms.rate is None:
        return min(20, search.terms.max_runs)
    return rates_of(search.terms.rate, search.terms.noise).runs_if_good(search.terms.beta)


def _measure(search: Search, good: str, bad: str) -> Action:
    values: dict[str, list[float]] = {}
    for commit in (good, bad):
        runs = search.runs_of(commit)
        values[commit] = [run.value for run in runs if run.value is not None]
        if len(values[commit]) < NR_MEASURED <= len(runs) - len(values[commit]):
            return Refused(f"nothing can be measured: {runs[-1].title}", "name another --metric, or other ends")
    fewer = min((good, bad), key=lambda commit: len(values[commit]))
    nr_values = len(values[fewer])
    if nr_values < NR_MEASURED or (nr_values < 4 * NR_MEASURED and _unclear(search, values[good], values[bad])):
        return Try(fewer, "good end" if fewer == good else "bad end", runs=NR_MEASURED)
    shown = [", ".join(f"{value:.3g}" for value in values[end]) for end in (bad, good)]
    return Refused(
        f"the bad end is not clearly worse by {search.terms.worse:.0%}: {shown[0]}, against {shown[1]} at the good end",
        "name other ends, or a smaller --worse",
    )


def _unclear(search: Search, good: Sequence[float], bad: Sequence[float]) -> bool:
    """Whether more measurements may tell two ends apart."""
    assert search.terms.worse is not None
    shift = Shift(tuple(good), tuple(bad))
    return shift.worse_by() > search.terms.worse / 2 and shift.apart() > 1


def good_end(search: Search) -> Action | None:
    """What to do at the good end; None when it passes."""
    assert search.rates is not None
    good = search.history.good
    verdict = search.verdict(good)
    if verdict is None:
        return Try(good, "good end", runs=search.expected_runs())
    told = search.tally(good)
    if verdict == "bad":
        return Refused(
            f"the good end fails as the bad one does: {told.counts.fails} of {told.counts.runs} runs, {search.sought}",
            "name a good end without the failure",
        )
    if verdict == "skip":
        return Refused(
            f"the good end cannot be tested: {told.others[-1] if told.others else 'its runs disagree'}",
            "name a later good end, one with which the test passes",
        )
    return None
