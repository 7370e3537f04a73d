# SPDX-License-Identifier: Apache-2.0
"""Estimates, ratios and verdicts: nothing is said that the samples do not say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn.experiment.description import Claim
from popcorn.experiment.estimate import Interval, estimate, ratio
from popcorn.experiment.verdict import judge, within

_SAMPLES = st.lists(st.floats(0.001, 1000), min_size=2, max_size=7)


def _draws(seed: int, mean: float, count: int, spread: float = 0.05) -> list[float]:
    source = random.Random(seed)
    return [mean * source.lognormvariate(0, spread) for _ in range(count)]


def test_mean_deviation_and_median_are_those_of_the_samples() -> None:
    found = estimate([1.0, 2.0, 6.0])
    assert (found.mean, found.median, found.count) == (3.0, 2.0, 3)
    assert found.std == pytest.approx(2.6457513)
    # Student's with two degrees of freedom: 4.302653 standard errors.
    assert found.interval is not None
    assert found.interval.high - 3.0 == pytest.approx(4.302653 * 2.6457513 / 3**0.5)


def test_one_sample_has_no_interval() -> None:
    assert estimate([1.0]).interval is None
    assert ratio([1.0], [2.0, 3.0]).interval is None
    assert not ratio([1.0], [20.0]).differs


def test_samples_that_are_all_equal_have_an_interval_of_one_value() -> None:
    assert estimate([2.0, 2.0]).interval == Interval(2.0, 2.0, "t")
    assert ratio([2.0, 2.0], [1.0, 1.0]).interval == Interval(2.0, 2.0, "t")


@pytest.mark.parametrize(("count", "method"), [(7, "t"), (8, "bootstrap")])
def test_few_samples_are_not_resampled(count: int, method: str) -> None:
    first, second = _draws(1, 1.0, count), _draws(2, 1.0, count)
    for found in (estimate(first).interval, ratio(first, second).interval):
        assert found is not None
        assert found.method == method


@given(_SAMPLES)
def test_the_mean_lies_in_its_interval(samples: list[float]) -> None:
    found = estimate(samples)
    assert found.interval is not None
    assert found.interval.low <= found.mean * (1 + 1e-9)
    assert found.mean <= found.interval.high * (1 + 1e-9)


def test_estimates_of_the_same_samples_are_the_same() -> None:
    first, second = _draws(1, 1.0, 20), _draws(2, 1.1, 20)
    assert estimate(first) == estimate(first)
    assert ratio(first, second) == ratio(first, second)


@pytest.mark.parametrize("count", [3, 5, 20])
def test_equal_systems_are_rarely_called_different(count: int) -> None:
    trials = 60
    wrong = sum(ratio(_draws(2 * n, 1.0, count), _draws(2 * n + 1, 1.0, count)).differs for n in range(trials))
    # One in twenty is what 95 % means; of resampled ones a few more.
    assert wrong <= 9


@pytest.mark.parametrize("count", [4, 20])
def test_a_plain_difference_is_called_one(count: int) -> None:
    found = ratio(_draws(1, 2.0, count), _draws(2, 1.0, count))
    assert found.differs
    assert found.interval is not None
    assert found.interval.low < 2.0 < found.interval.high


def test_outliers_are_named_and_kept() -> None:
    found = estimate([1.0, 1.1, 0.9, 1.0, 9.0])
    assert found.outliers == (9.0,)
    assert found.mean == pytest.approx(2.6)


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (1.1, 1.2, "agrees"),
        (1.0, 2.0, "agrees"),
        (0.9, 1.2, "cannot say"),
        (1.9, 2.1, "cannot say"),
        (0.5, 0.9, "differs"),
        (2.1, 2.2, "differs"),
        (0.5, 3.0, "cannot say"),
    ],
)
def test_an_answer_needs_the_whole_interval(low: float, high: float, answer: str) -> None:
    assert within(Interval(low, high, "t"), 1.0, 2.0) == answer


_FAST, _SLOW, _WILD = [1.0, 1.01, 0.99, 1.0], [2.0, 2.01, 1.99, 2.0], [0.2, 1.0, 5.0, 0.5]


def _claim(where: str = "all", cores: tuple[int, ...] = ()) -> Claim:
    return Claim.model_validate(
        {"text": "it is faster", "ratio": ("new", "old"), "at_most": 0.8, "where": where, "cores": cores}
    )


def _measured(*new: list[float]) -> dict[tuple[str, str, int], list[float]]:
    """The new system's samples at 1, 2, 4 … cores; the old one is slow at all."""
    found = {("new", "w", 2**n): samples for n, samples in enumerate(new)}
    return found | {("old", "w", 2**n): _SLOW for n in range(len(new))}


@pytest.mark.parametrize(
    ("where", "new", "answer"),
    [
        ("all", [_FAST, _FAST], "agrees"),
        ("all", [_FAST, _SLOW], "differs"),
        ("all", [_FAST, _WILD], "cannot say"),
        ("most", [_FAST, _FAST, _WILD], "agrees"),
        ("most", [_SLOW, _SLOW, _FAST], "differs"),
        ("most", [_SLOW, _WILD, _FAST], "cannot say"),
        ("any", [_SLOW, _FAST], "agrees"),
        ("any", [_SLOW, _SLOW], "differs"),
        ("any", [_SLOW, _WILD], "cannot say"),
    ],
)
def test_a_claim_is_judged_by_where_it_must_hold(where: str, new: list[list[float]], answer: str) -> None:
    assert judge(_claim(where), _measured(*new), ["w"]).answer == answer


def test_of_what_was_not_measured_nothing_can_be_said() -> None:
    found = judge(_claim(cores=(1, 16)), _measured(_FAST), ["w"])
    assert found.answer == "cannot say"
    assert [(point.answer, point.why) for point in found.points] == [
        ("agrees", ""),
        ("cannot say", "new and old not measured"),
    ]
    assert judge(_claim(), {}, ["w"]).answer == "cannot say"


def test_a_claim_says_how_it_was_read() -> None:
    assert judge(_claim("most"), _measured(_FAST, _FAST), ["w"]).read_as == "new / old ≤ 0.8 at most of 1, 2 cores"
    assert judge(_claim(cores=(1,)), _measured(_FAST), ["w"]).read_as == "new / old ≤ 0.8 at 1 core"


def test_a_claim_is_about_the_workload_that_it_names() -> None:
    claim = _claim().model_copy(update={"workload": "npb.is"})
    samples = {(system, name, 1): _FAST for system in ("new", "old") for name in ("npb.is.S", "npb.isx.S")}
    assert [point.workload for point in judge(claim, samples, ["npb.is.S", "npb.isx.S"]).points] == ["npb.is.S"]
