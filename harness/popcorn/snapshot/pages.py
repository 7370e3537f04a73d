# SPDX-License-Identifier: Apache-2.0
"""Pages of memory, each distinct one once: what was seen before becomes its number, what is zero becomes 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

PAGE_BYTES = 4096

Pages: TypeAlias = NDArray[np.uint8]
"""Shape (pages, `PAGE_BYTES`)."""
Numbers: TypeAlias = NDArray[np.uint32]
"""One a page: 0 for a page of zeros, else the number of a distinct page, counted from 1 in the order of appearance."""


class Sieve:
    """Tells the pages that have not been seen yet."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    @property
    def nr_distinct(self) -> int:
        """How many distinct pages there were so far, zeros aside."""
        return len(self._numbers)

    def sift(self, pages: Pages) -> tuple[Numbers, Pages]:
        """The numbers of some pages, and those of them that are new, in the order of their numbers."""
        numbers = np.zeros(len(pages), dtype=np.uint32)
        fresh = []
        known = self._numbers
        for index in np.flatnonzero(pages.view(np.uint64).any(axis=1)).tolist():
            # 128 bits: two different pages do not meet by chance.
            digest = xxhash.xxh3_128_digest(pages[index])
            number = known.get(digest)
            if number is None:
                number = known[digest] = len(known) + 1
                fresh.append(index)
            numbers[index] = number
        return numbers, pages[fresh]


class Spread:
    """Puts pages back into the memory of nodes, which is all zeros before."""

    def __init__(self, nodes: Sequence[Pages]) -> None:
        """
        Args:
            nodes: the memory of each.
        """
        self._nodes = nodes
        # Where each distinct page was put first.
        self._node = np.zeros(1 << 16, dtype=np.uint16)
        self._page = np.zeros(1 << 16, dtype=np.uint32)
        self._known = 0

    def put(self, node: int, first: int, numbers: Numbers, fresh: Pages) -> None:
        """Write some pages that follow each other.

        Args:
            first: the page of the node with which they begin.
            fresh: those of them that are new.

        Raises:
            ValueError: this cannot come from a `Sieve`.
        """
        if not (0 <= node < len(self._nodes) and 0 <= first <= len(self._nodes[node]) - len(numbers)):
            raise ValueError(f"{len(numbers)} pages from page {first} of node {node} on are no memory of the machine")
        before, after = self._known, self._known + len(fresh)
        distinct, places = np.unique(numbers[numbers > before], return_index=True)
        if not np.array_equal(distinct, np.arange(before + 1, after + 1)):
            raise ValueError("pages are numbered in another order than they come in")
        target = self._nodes[node][first : first + len(numbers)]
        places = np.flatnonzero(numbers > before)[places]
        target[places] = fresh
        self._remember(node, first + places, after)
        again = numbers > 0
        again[places] = False
        self._copy(target, np.flatnonzero(again), numbers)

    def _remember(self, node: int, pages: NDArray[np.int64], known: int) -> None:
        while known > len(self._node):
            self._node = np.concatenate([self._node, np.zeros_like(self._node)])
            self._page = np.concatenate([self._page, np.zeros_like(self._page)])
        self._node[self._known : known] = node
        self._page[self._known : known] = pages
        self._known = known

    def _copy(self, target: Pages, places: NDArray[np.int64], numbers: Numbers) -> None:
        wanted = numbers[places] - 1
        nodes = self._node[wanted]
        for node in np.unique(nodes).tolist():
            here = nodes == node
            target[places[here]] = self._nodes[node][self._page[wanted[here]]]
