# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a command to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class EndedError(KeyboardInterrupt):
    """A signal that asks to end: what is open is closed as for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def signal_of(error: BaseException | None) -> signal.Signals:
    """The signal that an interruption came by; Ctrl-C's unless the error knows another."""
    return signal.Signals(error.number if isinstance(error, EndedError) else signal.SIGINT)


@contextmanager
def ending_orderly() -> Iterator[None]:
    """SIGTERM and SIGHUP close what is open, as Ctrl-C does, unless somebody wants them otherwise (nohup does)."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise EndedError(number)

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """For what is written down at the end: signals that ask to end are late already."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            before[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
