# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a command to end, at moments that are chosen here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from threading import Event, Timer

import pytest

from popcorn.ending import EndedError, ending_orderly, signal_of, undisturbed

# Within such code a signal has to wait.
_LIBRARY = """
def call(work):
    return work()
def wait_for(event):
    return event.wait(60)
"""


@pytest.fixture(autouse=True)
def _as_a_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    assert {number: signal.getsignal(number) for number in usual} == usual
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.fixture
def library() -> dict[str, Callable[..., object]]:
    functions: dict[str, Callable[..., object]] = {}
    exec(_LIBRARY, {"__name__": "paramiko.something"}, functions)
    return functions


def _send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_at_once(number: signal.Signals) -> None:
    with pytest.raises(EndedError) as raised, ending_orderly():
        _send(number)
    assert signal_of(raised.value) == number


def test_it_waits_while_a_library_may_hold_a_lock(library: dict[str, Callable[..., object]]) -> None:
    passed = []

    def work() -> None:
        _send()
        time.sleep(0.2)
        passed.append("the end of the library")

    def command() -> None:
        library["call"](work)
        time.sleep(60)

    with pytest.raises(EndedError), ending_orderly():
        command()
    assert passed


def test_one_that_came_last_of_all_is_not_lost(library: dict[str, Callable[..., object]]) -> None:
    with pytest.raises(EndedError), ending_orderly():
        library["call"](_send)


def test_it_does_not_wait_for_what_the_library_waits_for(library: dict[str, Callable[..., object]]) -> None:
    timer = Timer(0.2, _send)
    timer.start()
    began = time.monotonic()
    with pytest.raises(EndedError), ending_orderly():
        library["wait_for"](Event())
    timer.join()
    assert time.monotonic() - began < 30


def test_the_second_does_not_wait(library: dict[str, Callable[..., object]]) -> None:
    def work() -> None:
        _send()
        _send(signal.SIGINT)
        raise AssertionError

    with pytest.raises(EndedError) as raised, ending_orderly():
        library["call"](work)
    assert signal_of(raised.value) == signal.SIGINT


def test_it_does_not_wait_for_ever(library: dict[str, Callable[..., object]]) -> None:
    def work() -> None:
        _send()
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(EndedError), ending_orderly():
        library["call"](work)
    assert time.monotonic() - began < 30


def test_who_ignores_a_signal_goes_on_doing_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending_orderly():
        _send(signal.SIGHUP)
    signal.signal(signal.SIGHUP, before)


def test_what_is_written_down_at_the_end_is_not_disturbed() -> None:
    with ending_orderly(), undisturbed():
        _send()
