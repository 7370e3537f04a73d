# SPDX-License-Identifier: Apache-2.0
"""Pages of memory, each distinct one once: what was seen before becomes its number, what is zero becomes 0."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from popcorn.errors import from_os_error
from popcorn.machine.memory import write_all

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


@dataclass(frozen=True)
class Node:
    """The memory of a node: a file, and its pages as they are mapped from it."""

    fd: int
    pages: Pages


class Spread:
    """Puts pages back into the memory of nodes, which is all zeros before.

    They are written into the files: a page that is first touched where it is mapped costs a fault, and is filled with
    zeros before.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
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
            HostMemoryError: the host has no memory for them.
            OSError: they cannot be written for another reason.
        """
        if not (0 <= node < len(self._nodes) and 0 <= first <= len(self._nodes[node].pages) - len(numbers)):
            raise ValueError(f"{len(numbers)} pages from page {first} of node {node} on are no memory of the machine")
        before, after = self._known, self._known + len(fresh)
        distinct, places = np.unique(numbers[numbers > before], return_index=True)
        if not np.array_equal(distinct, np.arange(before + 1, after + 1)):
            raise ValueError("pages are numbered in another order than they come in")
        used = np.flatnonzero(numbers)
        content = self._content(numbers[used], before, fresh)
        ends = np.flatnonzero(np.diff(used) != 1) + 1
        for begin, end in zip([0, *ends], [*ends, len(used)], strict=True):
            if begin < end:
                offset = (first + int(used[begin])) * PAGE_BYTES
                _write(self._nodes[node].fd, memoryview(content[begin:end].data).cast("B"), offset)
        # Now they can be read there.
        self._remember(node, first + np.flatnonzero(numbers > before)[places], after)

    def _remember(self, node: int, pages: NDArray[np.int64], known: int) -> None:
        while known > len(self._node):
            self._node = np.concatenate([self._node, np.zeros_like(self._node)])
            self._page = np.concatenate([self._page, np.zeros_like(self._page)])
        self._node[self._known : known] = node
        self._page[self._known : known] = pages
        self._known = known

    def _content(self, numbers: Numbers, before: int, fresh: Pages) -> Pages:
        """Pages by their numbers, of which those up to `before` have been written."""
        if len(numbers) == len(fresh):
            return fresh
        content = np.empty((len(numbers), PAGE_BYTES), dtype=np.uint8)
        new = numbers > before
        content[new] = fresh[numbers[new] - (before + 1)]
        old = np.flatnonzero(~new)
        wanted = numbers[old] - 1
        nodes = self._node[wanted]
        for node in np.unique(nodes).tolist():
            here = nodes == node
            content[old[here]] = self._nodes[node].pages[self._page[wanted[here]]]
        return content


def _write(fd: int, data: memoryview, offset: int) -> None:
    try:
        write_all(fd, data, offset)
    except OSError as error:
        # Of memory, too, the system may say that no space is left on the device.
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        refused = OSError(errno.ENOMEM, "the host has no memory for what the machine holds")
        raise from_os_error(refused) from error
