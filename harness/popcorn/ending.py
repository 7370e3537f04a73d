# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a command to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_LOOK_S = 0.02
_PATIENCE_S = 2.0


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
    """SIGTERM and SIGHUP close what is open, as Ctrl-C does, unless somebody wants them otherwise (nohup does).

    The second one does at once; the first waits while it would do harm (see `_may_hold_a_lock`).
    """
    asked: list[int] = []
    until = 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal until
        if asked or not _may_hold_a_lock(frame):
            raise_now(number)
        asked.append(number)
        until = time.monotonic() + _PATIENCE_S
        signal.signal(signal.SIGALRM, look_again)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)

    def look_again(_number: int, frame: FrameType | None) -> None:
        if asked and (time.monotonic() > until or not _may_hold_a_lock(frame)):
            raise_now(asked[0])

    def raise_now(number: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        asked.clear()
        raise EndedError(number)

    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.getsignal(number) for number in usual}
    numbers = [number for number in usual if before[number] is usual[number]]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
        if asked:
            raise_now(asked[0])
    finally:
        if asked:
            asked.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number in numbers:
            signal.signal(number, before[number])


def _may_hold_a_lock(frame: FrameType | None) -> bool:
    """Whether an exception raised here could leave a lock taken for ever.

    paramiko takes locks by ``acquire()`` and begins the ``try`` that releases them later: raised in between, an
    exception has whoever closes the connection wait for ever. Where it waits itself it is prepared for one.
    """
    waits = frame is not None and frame.f_code is threading.Condition.wait.__code__ and "gotit" in frame.f_locals
    while frame is not None and not waits:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "paramiko":
            return True
        frame = frame.f_back
    return False


@contextmanager
def undisturbed() -> Iterator[None]:
    """For what is written down at the end: signals that ask to end are late already."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            before[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
