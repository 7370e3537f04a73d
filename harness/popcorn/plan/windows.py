# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from popcorn.config.machine import Machine
from popcorn.plan.model import Window


def by_address(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Windows by address, those of a node that follow each other as one."""
    merged: list[Window] = []
    for window in sorted(windows, key=lambda window: window.start):
        if merged and merged[-1].end == window.start and merged[-1].node == window.node:
            merged[-1] = Window(start=merged[-1].start, size=merged[-1].size + window.size, node=window.node)
        else:
            merged.append(window)
    return tuple(merged)


def subtract(windows: Iterable[Window], taken: Iterable[Window]) -> list[Window]:
    """What is left of some windows without what others cover, by address."""
    holes = sorted(taken, key=lambda window: window.start)
    left = []
    for window in sorted(windows, key=lambda window: window.start):
        start = window.start
        for hole in holes:
            if hole.end <= start or hole.start >= window.end:
                continue
            if start < hole.start:
                left.append(Window(start=start, size=hole.start - start, node=window.node))
            start = hole.end
        if start < window.end:
            left.append(Window(start=start, size=window.end - start, node=window.node))
    return left


def overlapping(these: Iterable[Window], those: Iterable[Window]) -> bool:
    """Whether some byte is in both."""
    others = list(those)
    return any(one.start < other.end and other.start < one.end for one in these for other in others)


def free_blocks(machine: Machine, taken: Sequence[Window], block: int) -> list[Window]:
    """The RAM that is not taken, as far as it is whole blocks of so many bytes."""
    ram = [Window(start=piece.start, size=piece.size, node=piece.node) for piece in machine.ram]
    free = []
    for window in subtract(ram, taken):
        start, end = -(-window.start // block) * block, window.end // block * block
        if start < end:
            free.append(Window(start=start, size=end - start, node=window.node))
    return free
