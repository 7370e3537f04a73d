# SPDX-License-Identifier: Apache-2.0
"""Somebody sets the host's clock while Popcorn is at work: nothing that it judges by time goes wrong.

The clock of this process, or of the supervisor that it starts, is set: that of the host is everybody's.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_machine import Boot

from popcorn.build import apt, store
from popcorn.build.workspace import interruptible
from popcorn.clock import RunClock
from popcorn.machine.recorded import recorded_events
from popcorn.process import Completed

_HOUR_S = 3600.0
_REAL = time.time
# Python runs a module of this name when it starts.
_SET_CLOCK = """
import time
_real = time.time
def _time():
    try:
        with open({offset!r}) as file:
            return _real() + float(file.read() or 0)
    except OSError:
        return _real()
time.time = _time
"""

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the clock of this process, by so many seconds."""
    return lambda by_s: monkeypatch.setattr(time, "time", lambda: _REAL() + by_s)


@pytest.mark.parametrize("by_s", [_HOUR_S, -_HOUR_S])
def test_the_clock_of_a_run_goes_on_steadily(by_s: float, set_clock: SetClock) -> None:
    clock = RunClock.set()
    before = clock.now()
    set_clock(by_s)
    assert 0 <= clock.now() - before < 60
    assert abs(RunClock.set().now() - before - by_s) < 60


@pytest.mark.parametrize("by_s", [_HOUR_S, -_HOUR_S])
def test_neither_hearts_nor_events_of_a_machine_jump(
    by_s: float, boot: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = tmp_path / "offset"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(_SET_CLOCK.format(offset=str(offset)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'clock'}{os.pathsep}{os.environ['PYTHONPATH']}")
    with boot() as machine:
        offset.write_text(str(by_s))
        time.sleep(1.0)
        ages = [kernel.heartbeat_age_s for kernel in machine.ps()]
        run_dir = machine.run_dir
    assert all(age is not None and age < 60 for age in ages), ages
    events = recorded_events(run_dir)
    assert events[-1]["event"] == "ended"
    times = [float(str(event["t"])) for event in events]
    assert times == sorted(times)
    assert all(0 <= float(str(event["since_start_s"])) < 60 for event in events)
    assert not [event for event in events if event["event"] == "health"]


def test_an_entry_of_the_store_that_was_checked_in_the_future_is_checked_again(set_clock: SetClock) -> None:
    entry = store.get_or_build("thing", {}, lambda into: (into / "a").write_text("x") and None)
    (entry / "a").chmod(0o644)
    seal = entry.with_name(entry.name + ".seen")
    before = seal.stat().st_mtime_ns
    store.check(entry)
    assert (seen := seal.stat().st_mtime_ns) != before, "its mode had changed"
    store.check(entry)
    assert seal.stat().st_mtime_ns == seen
    set_clock(-_HOUR_S)
    store.check(entry)
    assert seal.stat().st_mtime_ns != seen


def test_package_lists_that_were_fetched_in_the_future_are_fetched_again(
    set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def apt_get(arguments: list[str], _options: list[str], cwd: Path) -> Completed:
        asked.append(arguments)
        (cwd / "lists" / "x_Sources").write_text("")
        return Completed(("apt-get",), 0, b"", b"", 0.0)

    monkeypatch.setattr(apt, "_apt_get", apt_get)
    monkeypatch.setattr(apt, "_sources_list", lambda: "deb x\n")
    apt.private_lists()
    apt.private_lists()
    assert asked == [["update"]]
    set_clock(-_HOUR_S)
    apt.private_lists()
    assert asked == [["update"], ["update"]]


def test_objects_that_look_older_than_the_build_that_was_killed_are_made_again(
    tmp_path: Path, set_clock: SetClock
) -> None:
    before, half = tmp_path / "before.o", tmp_path / "half.o"
    before.write_text("")
    old_s = time.time() - 2 * _HOUR_S
    os.utime(before, (old_s, old_s))

    with contextlib.suppress(KeyboardInterrupt), interruptible(tmp_path):
        # Somebody sets the clock back, then a compiler writes.
        half.write_text("half")
        written_s = _REAL() - _HOUR_S
        os.utime(half, (written_s, written_s))
        raise KeyboardInterrupt
    set_clock(-_HOUR_S)
    with interruptible(tmp_path):
        assert before.exists()
        assert not half.exists()
