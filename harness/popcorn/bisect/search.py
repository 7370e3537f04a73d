# SPDX-License-Identifier: Apache-2.0
"""The search: from all runs so far to what is to be done next. It keeps nothing but those runs.

A candidate on the way is judged with little evidence, as only the last good and the first bad one carry the answer:
those two are run again until the error bound holds. Should they turn out otherwise, the search goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

from popcorn.bisect.actions import Action, Found, Refused, Terms, Try
from popcorn.bisect.ends import ALWAYS, ENOUGH_FAILURES, NR_ALWAYS, NR_MEASURED, bad_end, good_end, rates_of
from popcorn.bisect.evidence import Run, Sought, Stage, Tally, commonest, tally
from popcorn.bisect.history import Answer, History, Mark, Next
from popcorn.bisect.sequential import Counts, Evidence, Rates, Verdict
from popcorn.bisect.shift import CLEAR, Shift

SEARCH_ERROR = 0.1
"""The error on the way; what it lets through is found when the answer is confirmed."""
COMPILER = Rates(1 - 1e-6, 1e-6)
"""A compiler says the same twice."""
NR_OTHERS = 3
"""A candidate that failed so often for another reason before it told anything cannot be tested."""
LOST_IN_A_ROW = 6


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
        return "skip" if self._exhausted(commit) else None

    def _exhausted(self, commit: str) -> bool:
        told = self.tally(commit)
        return told.counts.runs + len(told.others) >= self.terms.max_runs

    def next(self) -> Action:
        """What to do."""
        lost = self.lost_in_a_row()
        if lost >= self.forgiven + LOST_IN_A_ROW:
            return Refused(
                f"the last {lost} runs were lost to the host or the machine, not to the kernel: {self.runs[-1].title}",
                "mend that, then go on with --resume",
                by_host=True,
            )
        action = bad_end(self) or good_end(self) or self._between()
        if isinstance(action, Try) and self.sought is not None:
            return replace(action, until=self.sought.stage)
        return action

    def lost_in_a_row(self) -> int:
        """So many of the latest runs were lost."""
        count = 0
        while count < len(self.runs) and self.runs[-1 - count].result == "lost":
            count += 1
        return count

    def _between(self) -> Action:
        assert self.rates is not None
        marks: list[Mark] = []
        for commit in self._by_commit:
            if commit not in (self.history.good, self.history.bad):
                verdict = self.verdict(commit)
                if verdict is not None:
                    marks.append((commit, verdict))
        asked = self.history.ask(marks)
        if isinstance(asked, Next):
            return Try(asked.commit, "search", asked.steps, self.expected_runs())
        return self._confirm(asked)

    def expected_runs(self) -> float:
        """About so many runs tell what a candidate is."""
        assert self.rates is not None
        if isinstance(self.rates, Shift):
            return self.rates.runs(SEARCH_ERROR)
        return (self.rates.runs_if_good(SEARCH_ERROR) + self.rates.runs_if_bad(SEARCH_ERROR)) / 2

    def _confirm(self, answer: Answer) -> Action:
        """Have those that carry the answer run until the error bounds hold."""
        # Those among the answer that could not be tested carry nothing.
        first = next(commit for commit in answer.commits if self.verdict(commit) == "bad")
        before = self._last_good(answer.commits)
        if isinstance(self.rates, Shift):
            action, wrong_first, wrong_before = self._confirm_shift(self.rates, first, before)
        else:
            action, wrong_first, wrong_before = self._confirm_rates(first, before)
        if action is not None:
            return action
        error = wrong_first + sum(wrong_before.values())
        return Found(answer.commits, min(1.0, error), error <= self.terms.alpha + self.terms.beta)

    def _confirm_shift(
        self, shift: Shift, first: str, before: Sequence[str]
    ) -> tuple[Try | None, float, dict[str, float]]:
        ends = self.history.good, self.history.bad
        values = {"good": {}, "bad": {}, "skip": {}, None: {}}  # type: dict[str | None, dict[str, tuple[float, ...]]]
        for commit in self.tried():
            if commit not in ends:
                values[self.verdict(commit)][commit] = self.tally(commit).values

        def error(commit: str, wrong: Verdict) -> float:
            good, bad = (
                [value for one, told in values[which].items() if one != commit for value in told]
                for which in ("good", "bad")
            )
            return 0.0 if commit in ends else shift.error_if(wrong, self.tally(commit).values, good, bad)

        wrong_first = error(first, "good")
        wrong_before = {commit: error(commit, "bad") for commit in before}
        wanted = {first: self.terms.alpha} | dict.fromkeys(before, self.terms.beta / max(1, len(before)))
        for commit, wrong in ({first: wrong_first} | wrong_before).items():
            if wrong > wanted[commit] and not self._exhausted(commit):
                return Try(commit, "confirm", runs=shift.runs(wanted[commit])), wrong_first, wrong_before
        return None, wrong_first, wrong_before

    def _confirm_rates(self, first: str, before: Sequence[str]) -> tuple[Try | None, float, dict[str, float]]:
        evidence = self.evidence(before)
        counts = {commit: self.tally(commit).counts for commit in (first, *before)}
        wrong_first = evidence.error_if_good(counts[first])
        wrong_before = {commit: evidence.error_if_bad(counts[commit]) for commit in before}
        action = None
        if wrong_first > self.terms.alpha and not self._exhausted(first):
            action = Try(first, "confirm", runs=self.expected_runs())
        for commit, wrong in wrong_before.items():
            if action is not None or wrong <= self.terms.beta / len(before):
                continue
            # Where the rate is not known, runs on both sides count: those that are fewer are the more telling ones.
            unknown = evidence.rate is None and not self._exhausted(first)
            fewer = first if unknown and evidence.bad.runs < counts[commit].runs else commit
            if not self._exhausted(fewer):
                action = Try(fewer, "confirm", runs=self._runs_to_confirm(evidence, counts[commit]))
        return action, wrong_first, wrong_before

    def evidence(self, before: Sequence[str]) -> Evidence:
        """All runs of candidates that hold the change, where `before` are the last ones that do not."""
        assert isinstance(self.rates, Rates)
        bad = [commit for commit in self.tried() if commit not in before and self.verdict(commit) == "bad"]
        known = self.terms.rate is not None or self.rates is COMPILER
        total = sum((self.tally(commit).counts for commit in bad), Counts())
        return Evidence(total, self.rates.good, self.rates.bad if known else None)

    def _runs_to_confirm(self, evidence: Evidence, before: Counts) -> int:
        passes = 0
        while evidence.error_if_bad(before + Counts(0, passes)) > self.terms.beta and passes < self.terms.max_runs:
            passes += 1
        return max(1, passes)

    def _last_good(self, answer: Sequence[str]) -> list[str]:
        """The good candidates right before those that may be the answer."""
        before = dict.fromkeys(parent for commit in answer for parent in self.history.parents(commit))
        return [commit for commit in before if commit not in answer and self._by_commit.get(commit)]


def run_search(search: Search, trial: Callable[[Try], Run], told: Callable[[Try, Run], None]) -> Found | Refused:
    """Do what the search asks for until it ends; `told` keeps each run before the next one begins."""
    while isinstance(action := search.next(), Try):
        run = trial(action)
        told(action, run)
        search.add(run)
    return action
