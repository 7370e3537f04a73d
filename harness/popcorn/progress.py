# SPDX-License-Identifier: Apache-2.0
"""Telling a person what is going on: a live line on a terminal, plain lines elsewhere.

Everything goes to stderr, because stdout is for results.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status

# A step shorter than this ends without a line of its own.
_WORTH_TELLING_S = 1.0
# How often a plain stream is told how far a step is.
_PLAIN_EVERY_S = 30.0

_lock = threading.Lock()
_open_steps: list[Step] = []
_live: Status | None = None


class Step:
    """Something that is being done; made by `step`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.detail = ""
        self._told_at = time.monotonic()

    def update(self, detail: str) -> None:
        """Say how far it is, e.g. ``12 of 48``; without a terminal, a line now and then."""
        self.detail = detail
        with _lock:
            if _live is not None:
                _redraw()
            elif not sys.stderr.isatty() and time.monotonic() - self._told_at >= _PLAIN_EVERY_S:
                self._told_at = time.monotonic()
                _print(f"{self.text}: {detail}")


@contextmanager
def step(text: str) -> Iterator[Step]:
    """Tell that something begins and, when it took a while, how long it took."""
    current = Step(text)
    began = time.monotonic()
    _begin(current)
    outcome = "failed"
    try:
        yield current
        outcome = "done"
    finally:
        _end(current, outcome, time.monotonic() - began)


def note(text: str) -> None:
    """One line for the user."""
    with _lock:
        _print(text)


def _begin(current: Step) -> None:
    global _live
    with _lock:
        _open_steps.append(current)
        if not sys.stderr.isatty():
            _print(f"{current.text} …")
        elif _live is None:
            from rich.console import Console
            from rich.status import Status

            _live = Status(_line(), console=Console(stderr=True))
            _live.start()
        else:
            _redraw()


def _end(current: Step, outcome: str, elapsed_s: float) -> None:
    global _live
    with _lock:
        _open_steps.remove(current)
        if _live is not None and not _open_steps:
            _live.stop()
            _live = None
        if _live is not None:
            _redraw()
        if outcome == "failed" or elapsed_s >= _WORTH_TELLING_S:
            _print(f"{current.text}: {outcome} ({elapsed_s:.1f} s)")


def _line() -> str:
    from rich.markup import escape

    parts = []
    for current in _open_steps:
        parts.append(f"{current.text} ({current.detail})" if current.detail else current.text)
    return escape(" › ".join(parts))


def _redraw() -> None:
    if _live is not None:
        _live.update(_line())


def _print(text: str) -> None:
    if _live is not None:
        _live.console.print(text, markup=False, highlight=False)
    else:
        print(text, file=sys.stderr, flush=True)
