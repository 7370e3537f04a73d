# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn.errors import HostMemoryError
from popcorn.snapshot.pages import PAGE_BYTES, Node, Pages, Sieve, Spread


def page(value: int) -> Pages:
    """One that differs from others in its last byte alone."""
    made = np.zeros((1, PAGE_BYTES), dtype=np.uint8)
    made[0, -1] = value
    return made


def memory(values: list[int]) -> Pages:
    return np.concatenate([page(value) for value in values])


def empty(nr_pages: int) -> Pages:
    return np.zeros((nr_pages, PAGE_BYTES), dtype=np.uint8)


@contextmanager
def nodes(*nr_pages: int) -> Iterator[list[Node]]:
    """Nodes of so many pages, all zeros."""
    with ExitStack() as stack:
        made = []
        for number in nr_pages:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.truncate(number * PAGE_BYTES)
            pages = np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.uint8).reshape(-1, PAGE_BYTES)
            made.append(Node(file.fileno(), pages))
        yield made


def test_zeros_cost_nothing_and_what_was_seen_before_costs_a_number() -> None:
    sieve = Sieve()
    numbers, fresh = sieve.sift(memory([0, 7, 0, 8, 7]))
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert fresh[:, -1].tolist() == [7, 8]
    numbers, fresh = sieve.sift(memory([8, 9]))
    assert numbers.tolist() == [2, 3]
    assert fresh[:, -1].tolist() == [9]
    assert sieve.nr_distinct == 3


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=4), st.integers(1, 5))
def test_memory_comes_back_as_it_was(values: list[list[int]], piece: int) -> None:
    saved = [memory(of_node) for of_node in values]
    with nodes(*map(len, saved)) as restored:
        sieve, spread = Sieve(), Spread(restored)
        for number, node in enumerate(saved):
            for first in range(0, len(node), piece):
                pages = node[first : first + piece]
                spread.put(number, first, *sieve.sift(pages))
        assert all(np.array_equal(one, other.pages) for one, other in zip(saved, restored, strict=True))


def test_pages_that_are_zeros_stay_holes() -> None:
    with nodes(600) as (node,):
        spread = Spread([node])
        spread.put(0, 0, *Sieve().sift(memory([1, *[0] * 598, 2])))
        hole = os.lseek(node.fd, 0, os.SEEK_HOLE)
        # A file system may have larger blocks.
        assert hole < 300 * PAGE_BYTES
        assert os.lseek(node.fd, hole, os.SEEK_DATA) > 300 * PAGE_BYTES


def test_more_distinct_pages_than_were_made_room_for_come_back() -> None:
    distinct = np.zeros((70_000, PAGE_BYTES), dtype=np.uint8)
    distinct[:, :4] = np.arange(1, 70_001, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    sieve = Sieve()
    with nodes(140_000) as (node,):
        spread = Spread([node])
        spread.put(0, 0, *sieve.sift(distinct))
        spread.put(0, 70_000, *sieve.sift(distinct))
        assert np.array_equal(node.pages[:70_000], distinct)
        assert np.array_equal(node.pages[70_000:], distinct)


@pytest.mark.parametrize(
    ("node", "first", "numbers", "nr_fresh"),
    [
        pytest.param(1, 0, [1], 1, id="a node that is not there"),
        pytest.param(0, 3, [1, 2], 2, id="pages beyond the end of a node"),
        pytest.param(0, 0, [2], 1, id="a number that was left out"),
        pytest.param(0, 0, [1, 2], 1, id="fewer new pages than new numbers"),
        pytest.param(0, 0, [1], 2, id="more new pages than new numbers"),
        pytest.param(0, 0, [5], 0, id="a number that was never given"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(node: int, first: int, numbers: list[int], nr_fresh: int) -> None:
    with nodes(4) as there, pytest.raises(ValueError, match=r"are no memory of the machine|numbered in another order"):
        Spread(there).put(node, first, np.array(numbers, dtype=np.uint32), empty(nr_fresh))


def test_memory_that_the_host_refuses_is_no_full_disk() -> None:
    numbers, fresh = Sieve().sift(memory([7]))
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(HostMemoryError, match="the host has no memory for what the machine holds"):
            Spread([Node(full, empty(1))]).put(0, 0, numbers, fresh)
    finally:
        os.close(full)
