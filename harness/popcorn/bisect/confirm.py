# SPDX-License-Identifier: Apache-2.0
"""Confirming an answer: those that carry it are run again until the error bounds hold."""

from __future__ import annotations

from collections.abc import Sequence

from popcorn.bisect.actions import Action, Found, Try
from popcorn.bisect.history import Answer
from popcorn.bisect.search import COMPILER, Search
from popcorn.bisect.sequential import Counts, Evidence, Rates, Verdict
from popcorn.bisect.shift import Shift


def confirm(search: Search, answer: Answer) -> Action:
    """Have those that carry the answer run until the error bounds hold."""
    # Those among the answer that could not be tested carry nothing.
    first = next(commit for commit in answer.commits if search.verdict(commit) == "bad")
    before = _last_good(search, answer.commits)
    if isinstance(search.rates, Shift):
        action, wrong_first, wrong_before = _confirm_shift(search, search.rates, first, before)
    else:
        action, wrong_first, wrong_before = _confirm_rates(search, first, before)
    if action is not None:
        return action
    error = wrong_first + sum(wrong_before.values())
    return Found(answer.commits, min(1.0, error), error <= search.terms.alpha + search.terms.beta)


def _confirm_shift(
    search: Search, shift: Shift, first: str, before: Sequence[str]
) -> tuple[Try | None, float, dict[str, float]]:
    ends = search.history.good, search.history.bad
    values = {"good": {}, "bad": {}, "skip": {}, None: {}}  # type: dict[str | None, dict[str, tuple[float, ...]]]
    for commit in search.tried():
        if commit not in ends:
            values[search.verdict(commit)][commit] = search.tally(commit).values

    def error(commit: str, wrong: Verdict) -> float:
        good, bad = (
            [value for one, told in values[which].items() if one != commit for value in told]
            for which in ("good", "bad")
        )
        return 0.0 if commit in ends else shift.error_if(wrong, search.tally(commit).values, good, bad)

    wrong_first = error(first, "good")
    wrong_before = {commit: error(commit, "bad") for commit in before}
    wanted = {first: search.terms.alpha} | dict.fromkeys(before, search.terms.beta / max(1, len(before)))
    for commit, wrong in ({first: wrong_first} | wrong_before).items():
        if wrong > wanted[commit] and not search.exhausted(commit):
            return Try(commit, "confirm", runs=shift.runs(wanted[commit])), wrong_first, wrong_before
    return None, wrong_first, wrong_before


def _confirm_rates(search: Search, first: str, before: Sequence[str]) -> tuple[Try | None, float, dict[str, float]]:
    evidence = _evidence(search, before)
    counts = {commit: search.tally(commit).counts for commit in (first, *before)}
    wrong_first = evidence.error_if_good(counts[first])
    wrong_before = {commit: evidence.error_if_bad(counts[commit]) for commit in before}
    action = None
    if wrong_first > search.terms.alpha and not search.exhausted(first):
        action = Try(first, "confirm", runs=search.expected_runs())
    for commit, wrong in wrong_before.items():
        if action is not None or wrong <= search.terms.beta / len(before):
            continue
        # Where the rate is not known, runs on both sides count: those that are fewer are the more telling ones.
        unknown = evidence.rate is None and not search.exhausted(first)
        fewer = first if unknown and evidence.bad.runs < counts[commit].runs else commit
        if not search.exhausted(fewer):
            action = Try(fewer, "confirm", runs=_runs_to_confirm(search, evidence, counts[commit]))
    return action, wrong_first, wrong_before


def _evidence(search: Search, before: Sequence[str]) -> Evidence:
    """All runs of candidates that hold the change, where `before` are the last ones that do not."""
    assert isinstance(search.rates, Rates)
    bad = [commit for commit in search.tried() if commit not in before and search.verdict(commit) == "bad"]
    known = search.terms.rate is not None or search.rates is COMPILER
    total = sum((search.tally(commit).counts for commit in bad), Counts())
    return Evidence(total, search.rates.good, search.rates.bad if known else None)


def _runs_to_confirm(search: Search, evidence: Evidence, before: Counts) -> int:
    passes = 0
    while evidence.error_if_bad(before + Counts(0, passes)) > search.terms.beta and passes < search.terms.max_runs:
        passes += 1
    return max(1, passes)


def _last_good(search: Search, answer: Sequence[str]) -> list[str]:
    """The good candidates right before those that may be the answer."""
    before = dict.fromkeys(parent for commit in answer for parent in search.history.parents(commit))
    return [commit for commit in before if commit not in answer and commit in search.tried()]
