# SPDX-License-Identifier: Apache-2.0
"""Suites are dealt out so that machines are shared, and long groups begin first."""

from __future__ import annotations

import pytest

from popcorn.testing import turns
from popcorn.testing.turns import Turn

_MANY = [Turn(module, "small") for module in ("a", "b", "c") for _ in range(5)]
_LARGE = [Turn("d", "large", nr_cpus=48), Turn("a", "large", nr_cpus=48)]
_OWN = [Turn("e", None), Turn("e", None)]
_OTHER = [Turn("a", "other"), Turn("b", "other")]


def _dealt(tests: list[Turn]) -> list[str | None]:
    """The groups as they begin."""
    names = turns.groups(tests)
    return list(dict.fromkeys(names[index] for index in turns.order(tests)))


def test_a_machine_that_few_modules_need_is_one_group() -> None:
    assert set(turns.groups(_LARGE + _OTHER)) == {"large", "other"}


def test_a_machine_that_many_modules_need_is_a_group_a_module() -> None:
    assert len(set(turns.groups(_MANY))) == 3


def test_who_boots_a_machine_of_its_own_is_in_no_group() -> None:
    assert turns.groups(_OWN) == [None, None]


def test_the_largest_machine_begins_and_the_tests_without_one_end() -> None:
    assert _dealt(_OWN + _OTHER + _MANY + _LARGE) == ["large", "small a", "small b", "small c", "other", None]


def test_tests_of_a_group_follow_each_other_in_their_own_order() -> None:
    tests = [Turn("a", "one"), Turn("a", "two"), Turn("b", "one"), Turn("b", "two"), Turn("b", "one")]
    assert turns.order(tests) == [2, 4, 0, 1, 3]


def test_the_module_with_the_most_tests_that_boot_machines_of_their_own_is_the_end() -> None:
    tests = [Turn("a", None), Turn("a", None), Turn("b", None)]
    assert turns.order(tests) == [2, 0, 1]


def test_what_is_skipped_makes_no_module_long() -> None:
    tests = [Turn("a", None), Turn("a", None), *[Turn("b", None, skipped=number > 0) for number in range(5)]]
    assert _modules(tests) == ["b", "a"]
    tests = [*[Turn("b", "one", skipped=True)] * 5, Turn("a", "one"), Turn("a", "one")]
    assert _modules(tests) == ["a", "b"]


def test_modules_that_are_skipped_do_not_need_a_machine() -> None:
    tests = [*_OTHER, Turn("c", "other", skipped=True)]
    assert set(turns.groups(tests)) == {"other"}


def _modules(tests: list[Turn]) -> list[str]:
    return list(dict.fromkeys(tests[index].module for index in turns.order(tests)))


@pytest.mark.parametrize(("gib", "cores", "expected"), [(23, 2, 2), (8, 8, 3), (2, 8, 1)])
def test_there_are_no_more_workers_than_cores_and_memory_for_their_machines(
    gib: int, cores: int, expected: int
) -> None:
    assert turns.workers(cores, gib << 30) == expected
