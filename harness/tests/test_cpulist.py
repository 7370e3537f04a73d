# SPDX-License-Identifier: Apache-2.0
"""CPU lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn import cpulist
from popcorn.errors import UserError


def test_ranges_and_numbers_are_read_in_any_order() -> None:
    assert cpulist.parse("8, 0-2,5") == (0, 1, 2, 5, 8)


def test_the_shortest_list_is_written() -> None:
    assert cpulist.format([8, 2, 1, 0, 5]) == "0-2,5,8"
    assert cpulist.format([]) == ""


@given(st.sets(st.integers(0, 600), min_size=1))
def test_what_is_written_is_read_back(cpus: set[int]) -> None:
    assert cpulist.parse(cpulist.format(cpus)) == tuple(sorted(cpus))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no CPU"),
        ("0,,1", "is no CPU"),
        ("a-b", "is no CPU"),
        ("-1", "is no CPU"),
        ("5-3", "reversed"),
        ("0-3,2", "CPU 2 stands twice"),
        ("0-99999999999", "no machine has"),
    ],
)
def test_a_bad_list_is_refused_with_its_cause(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        cpulist.parse(text)
    assert caught.value.hint
