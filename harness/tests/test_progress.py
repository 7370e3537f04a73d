# SPDX-License-Identifier: Apache-2.0
"""Progress, as a person on a terminal and a log file see it."""

from __future__ import annotations

import sys

import pytest

from popcorn import progress

Capture = pytest.CaptureFixture[str]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("popcorn.progress.time.monotonic", clock)
    return clock


def test_a_step_is_told_on_stderr_and_stdout_is_left_to_results(clock: Clock, capsys: Capture) -> None:
    with progress.step("building"):
        clock.now = 2.5
    captured = capsys.readouterr()
    assert captured.err == "building …\nbuilding: done (2.5 s)\n"
    assert captured.out == ""


def test_a_short_step_is_told_once(clock: Clock, capsys: Capture) -> None:
    with progress.step("looking"):
        pass
    assert capsys.readouterr().err == "looking …\n"


def test_a_step_that_fails_says_so_and_lets_the_error_through(clock: Clock, capsys: Capture) -> None:
    with pytest.raises(ValueError, match="why"), progress.step("building"):
        raise ValueError("why")
    assert "building: failed" in capsys.readouterr().err


def test_without_a_terminal_a_long_step_is_told_now_and_then(clock: Clock, capsys: Capture) -> None:
    with progress.step("building") as step:
        for second in range(65):
            clock.now = float(second)
            step.update(f"{second} of 65")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:-1] == ["building: 30 of 65", "building: 60 of 65"]


def test_on_a_terminal_steps_within_steps_share_a_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.step("outer [x]") as outer, progress.step("inner"):
        outer.update("1 of 2")
        assert progress._line() == r"outer \[x] (1 of 2) › inner"
        progress.note("a [note]")
    assert "a [note]" in capsys.readouterr().err
    assert progress._live is None
