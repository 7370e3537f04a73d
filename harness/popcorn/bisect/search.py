# SPDX-License-Identifier: Apache-2.0
"""All runs of a search, and what follows from them. It keeps nothing but those runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Literal

from popcorn.bisect.actions import Terms
from popcorn.bisect.evidence import Run, Sought, Stage, Tally, commonest, tally
from popcorn.bisect.history import History
from popcorn.bisect.sequential import Rates
from popcorn.bisect.shift import CLEAR, Shift

ALWAYS = 0.95
"""The rate on the way of a failure that each run at the bad end showed."""
NR_ALWAYS = 3
"""So many runs at the bad end, all failed, count as always."""
ENOUGH_FAILURES = 8
"""A rate is measured until the bad end failed so often."""
NR_MEASURED = 5
"""So many measurements at either end tell what is worse; up to four times as many if their spread hides it."""
SEARCH_ERROR = 0.1
"""The error on the way; what it lets through is found when the answer is confirmed."""
COMPILER = Rates(1 - 1e-6, 1e-6)
"""A compiler says the same twice."""
NR_OTHERS = 3
"""A candidate that failed so often for another reason before it told anything cannot be tested."""


class Search:
    """All runs of a search, and what follows from them."""

    def __init__(self, history: History, terms: Terms, runs: Iterable[Run] = ()) -> None:
        self.history, self.terms = history, terms
        self.runs: list[Run] = []
        self.forgiven = 0
        """So many of the latest runs had been lost when the search was resumed."""
        self._by_commit: dict[str, list[Run]] = {history.bad: [], history.good: []}
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> None:
        """Take one more run into account."""
        self.runs.append(run)
        if run.result != "lost":
            self.forgiven = 0
        self._by_commit.setdefault(run.commit, []).append(run)
        for name in ("sought", "rates"):
            self.__dict__.pop(name, None)

    def runs_of(self, commit: str) -> list[Run]:
        """The runs of a candidate that the host did not lose."""
        return [run for run in self._by_commit.get(commit, ()) if run.result != "lost"]

    def tried(self) -> dict[str, list[Run]]:
        """The runs of each candidate that was tried, ends included."""
        return {commit: runs for commit, runs in self._by_commit.items() if runs}

    def tally(self, commit: str) -> Tally:
        """The runs of a candidate, counted."""
        assert self.sought is not None, "the bad end has not failed yet"
        return tally(self._by_commit.get(commit, ()), self.sought)

    @cached_property
    def sought(self) -> Sought | None:
        """The failure that is looked for; None while the bad end has shown none."""
        bad = self._by_commit[self.history.bad]
        if self.terms.worse is not None:
            good = self._by_commit[self.history.good]
            before, after = ([run.value for run in end if run.value is not None] for end in (good, bad))
            if min(len(before), len(after)) < NR_MEASURED:
                return None
            shift = Shift(tuple(before), tuple(after))
            clear = shift.apart() > CLEAR and shift.worse_by() > self.terms.worse
            return Sought("", shift=shift) if clear else None
        if self.terms.pattern:
            matching = Sought("", pattern=self.terms.pattern)
            shown = commonest([run for run in bad if matching.shown_by(run)])
            return Sought(shown.title, shown.stage, self.terms.pattern) if shown else None
        failed = commonest(bad)
        return Sought(failed.title, failed.stage) if failed else None

    @cached_property
    def rates(self) -> Rates | Shift | None:
        """How the failure shows, for verdicts on the way; None while that is not known well enough."""
        if self.sought is None:
            return None
        if self.sought.shift is not None:
            return self.sought.shift
        if self.sought.stage is Stage.BUILD:
            return COMPILER
        if self.terms.rate is not None:
            return rates_of(self.terms.rate, self.terms.noise)
        counts = self.tally(self.history.bad).counts
        if self.always and not counts.passes:
            return rates_of(ALWAYS, self.terms.noise) if counts.fails >= NR_ALWAYS else None
        if not counts.fails or (counts.fails < ENOUGH_FAILURES and counts.runs < self.terms.max_runs):
            return None
        return rates_of(counts.fails / counts.runs, self.terms.noise)

    @property
    def always(self) -> bool:
        """Whether no candidate has shown both: the failure and its absence."""
        found = (self.tally(commit).counts for commit in self.tried())
        return not any(counts.fails and counts.passes for counts in found)

    def verdict(self, commit: str) -> Literal["good", "bad", "skip"] | None:
        """What a candidate is by its runs; None while they are too few."""
        assert self.rates is not None
        told = self.tally(commit)
        if isinstance(self.rates, Shift):
            found = self.rates.verdict(told.values, SEARCH_ERROR)
        else:
            found = self.rates.verdict(told.counts, SEARCH_ERROR)
        if found is not None:
            return found
        if not told.built or (len(told.others) >= NR_OTHERS and not told.counts.runs):
            return "skip"
        return "skip" if self.exhausted(commit) else None

    def exhausted(self, commit: str) -> bool:
        """Whether a candidate has been run as often as it may be."""
        told = self.tally(commit)
        return told.counts.runs + len(told.others) >= self.terms.max_runs

    def lost_in_a_row(self) -> int:
        """So many of the latest runs were lost."""
        count = 0
        while count < len(self.runs) and self.runs[-1 - count].result == "lost":
            count += 1
        return count

    def expected_runs(self) -> float:
        """About so many runs tell what a candidate is."""
        assert self.rates is not None
        if isinstance(self.rates, Shift):
            return self.rates.runs(SEARCH_ERROR)
        return (self.rates.runs_if_good(SEARCH_ERROR) + self.rates.runs_if_bad(SEARCH_ERROR)) / 2


def rates_of(bad: float, noise: float) -> Rates:
    """Rates that differ enough for runs to tell them apart."""
    bad = min(bad, ALWAYS)
    return Rates(bad, min(noise, bad / 4))
