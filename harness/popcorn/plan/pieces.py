# SPDX-License-Identifier: Apache-2.0
"""In how many pieces a kernel's memory is while windows come to it and leave it.

A kernel tells the others of so many pieces (`MAX_WINDOWS`) and no more. Windows are moved in pieces themselves, of
which each moves as a whole or not at all; in the wrong order there are more in between than before and after.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from popcorn.config.sizes import GIB
from popcorn.plan.memory import MAX_WINDOWS
from popcorn.plan.model import Window

_PIECE = GIB


@dataclass(frozen=True)
class Order:
    """Windows as they are moved one after the other."""

    pieces: tuple[Window, ...] = ()
    left: tuple[Window, ...] = ()
    """What would make them too many."""
    has: tuple[Window, ...] = ()
    """What the kernel has then, by address, without nodes."""


def coming(has: Iterable[Window], windows: Iterable[Window], limit: int = MAX_WINDOWS) -> Order:
    """The order in which windows come to a kernel.

    Args:
        has: what it has, all that it tells the others.
        windows: nothing of that.
        limit: of pieces.
    """
    spans = _spans(has)
    waiting, pieces = sorted(windows, key=lambda window: window.start), list[Window]()
    while waiting:
        window = min(waiting, key=lambda one: 1 - _touched(spans, one))
        if len(spans) + 1 - _touched(spans, window) > limit:
            break
        waiting.remove(window)
        # From where it has something already: all but the first piece follow what came before anyway.
        upwards = any(end == window.start for _, end in spans) or all(start != window.end for start, _ in spans)
        pieces += _cut(window, upwards=upwards)
        spans = _merged([*spans, (window.start, window.end)])
    return Order(tuple(pieces), tuple(waiting), _windows(spans))


def going(has: Iterable[Window], windows: Iterable[Window], limit: int = MAX_WINDOWS) -> Order:
    """The order in which windows leave a kernel; arguments as for `coming`, but that it has them."""
    spans = _spans(has)
    waiting, pieces = sorted(windows, key=lambda window: window.start), list[Window]()
    while waiting:
        window = min(waiting, key=lambda one: len(_without(spans, one)))
        if len(_without(spans, window)) > limit:
            break
        waiting.remove(window)
        # From where nothing remains.
        upwards = any(start == window.start for start, _ in spans) or all(end != window.end for _, end in spans)
        pieces += _cut(window, upwards=upwards)
        spans = _without(spans, window)
    return Order(tuple(pieces), tuple(waiting), _windows(spans))


_Span = tuple[int, int]


def _spans(windows: Iterable[Window]) -> list[_Span]:
    return _merged((window.start, window.end) for window in windows)


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _touched(spans: Iterable[_Span], window: Window) -> int:
    return sum(window.start == end or window.end == start for start, end in spans)


def _without(spans: Iterable[_Span], window: Window) -> list[_Span]:
    left = []
    for start, end in spans:
        if window.end <= start or end <= window.start:
            left.append((start, end))
        else:
            left += [span for span in ((start, window.start), (window.end, end)) if span[0] < span[1]]
    return left


def _windows(spans: Iterable[_Span]) -> tuple[Window, ...]:
    return tuple(Window(start=start, size=end - start, node=0) for start, end in spans)


def _cut(window: Window, *, upwards: bool) -> list[Window]:
    if upwards:
        cuts = [(start, min(start + _PIECE, window.end)) for start in range(window.start, window.end, _PIECE)]
    else:
        cuts = [(max(end - _PIECE, window.start), end) for end in range(window.end, window.start, -_PIECE)]
    return [Window(start=start, size=end - start, node=window.node) for start, end in cuts]
