# SPDX-License-Identifier: Apache-2.0
"""JUnit cases of tests when pytest was killed before it could write its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from popcorn.junit import Case
from popcorn.testing.verdict import Outcome, TestVerdict

_TOLD_AS: dict[Outcome, Literal["error", "skipped"]] = {Outcome.LOST: "error", Outcome.SKIPPED: "skipped"}


def case(name: str, output: str, outcome: Outcome, elapsed_s: float) -> Case:
    """What came to an outcome."""
    return Case(name, output, outcome is Outcome.PASSED, elapsed_s, _TOLD_AS.get(outcome, "failure"))


def partial_cases(verdicts: Sequence[TestVerdict], unended: Sequence[str], why: str) -> list[Case]:
    """The tests that had ended, those that had begun, and one that failed: not all ended.

    Args:
        unended: node ids.
        why: what stopped them.
    """
    cases = [case(one.test, one.text or one.title, one.outcome, one.elapsed_s) for one in verdicts]
    cases += [Case(test, "it had not ended", False, 0.0, "error") for test in unended]
    return [*cases, Case("all tests ended", f"partial results: {why}", False, 0.0)]
