# SPDX-License-Identifier: Apache-2.0
"""A machine that was saved goes on as if nothing had happened, but for the time of day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import await_no_qemu, machines, popcorn, qemus, started
from little import two_cores

from popcorn.dirs import cache_dir
from popcorn.machine.machine import Machine, attach_up
from popcorn.snapshot import turns
from popcorn.snapshot.bringup import from_snapshot
from popcorn.testing import EVERY_SERIES, Kernel

_CLUSTERS = ("up", "--machine", "small", "--policy", "per-node", "--accel", "tcg")
_GONE_S = 8.0
_START_S = 120.0
# What a command takes to be run in a kernel counts as well; the clocks themselves are right to milliseconds.
_CLOCK_OFF_S = 0.3

# Whoever reads finds a whole number at any time.
_COUNT = "i=0; while :; do i=$((i + 1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.2; done"


@pytest.fixture
def saved(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Named snapshots of the test's own."""
    folder = short_path / "saved"
    monkeypatch.setenv("POPCORN_SNAPSHOTS", str(folder))
    return folder


@pytest.fixture
def boot(private_dirs: Path) -> tuple[str, ...]:
    """The words that boot a kernel on each of two CPUs."""
    return ("up", "--machine", str(two_cores(private_dirs)), "--policy", "per-core", "--accel", "tcg")


@contextmanager
def _restored(snapshot: str, name: str) -> Iterator[Machine]:
    done = popcorn("up", "--from", snapshot, "--name", name)
    assert done.returncode == 0, done.stderr
    assert "not booted: it goes on from where it was saved" in done.stdout
    try:
        with attach_up(name) as machine:
            yield machine
    finally:
        assert popcorn("down", "--name", name).returncode == 0


def _in_all(machine: Machine, script: str) -> dict[int, str]:
    answers = machine.exec_all(["sh", "-c", script], timeout_s=120)
    for id, done in answers.items():
        assert done.status == 0, f"kernel {id}: {done.stderr_text}"
    return {id: done.stdout_text for id, done in answers.items()}


def _numbers(machine: Machine, script: str) -> dict[int, float]:
    return {id: float(text.split()[0]) for id, text in _in_all(machine, script).items()}


def _assert_right_time(machine: Machine) -> None:
    for partition in machine.plan.partitions:
        kernel = Kernel(machine, partition.id)
        # The first time code is run, the emulator translates it.
        kernel.shell("echo $EPOCHREALTIME")
        before = time.time()
        clock = float(kernel.shell("echo $EPOCHREALTIME"))
        after = time.time()
        assert before - _CLOCK_OFF_S < clock < after + _CLOCK_OFF_S, (
            f"kernel {partition.id} is off by {clock - (before + after) / 2:.3f} s"
        )


@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_all_kernels_go_on_at_the_right_time(machine: Machine, saved: Path) -> None:
    _in_all(machine, f"({_COUNT}) >/dev/null 2>&1 </dev/null &")
    counts, uptimes = _numbers(machine, "cat /tmp/count"), _numbers(machine, "cat /proc/uptime")
    # Earlier tests may have started kernels of this machine again, and it may itself go on from a snapshot.
    starts, settings = ({id: _said(machine, id, words) for id in counts} for words in (_START, _SETTING))
    done = popcorn("snapshot", "state", "--name", machine.name)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in saved.iterdir()] == ["state.snapshot"]
    # The saved machine itself goes on, and its clocks were put right.
    _assert_right_time(machine)
    after = _numbers(machine, "cat /tmp/count")
    assert all(after[id] > counts[id] for id in counts)

    began = time.monotonic()
    with _restored("state", f"{machine.name}-again") as again:
        later, more = _numbers(again, "cat /tmp/count"), _numbers(again, "sleep 1; cat /tmp/count")
        took = time.monotonic() - began
        for id in counts:
            assert counts[id] <= later[id] < more[id], f"kernel {id} counted {counts[id]}, {later[id]}, {more[id]}"
        for id, uptime in _numbers(again, "cat /proc/uptime").items():
            # It did not age while it lay on the disk; after that it had to answer what was asked since.
            assert uptimes[id] < uptime < uptimes[id] + (time.monotonic() - began) + took
        _assert_right_time(again)
        _all_is_well(again)
        # No line is lost, none is told twice, and the time was set once more.
        for id in counts:
            assert _said(again, id, _START) == starts[id]
            assert _said(again, id, _SETTING) == settings[id] + 1
    assert machine.alive()


@pytest.mark.machine("small", policy="per-core")
def test_kernels_that_go_on_by_turns_do_so_at_the_right_time(
    machine: Machine, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert popcorn("snapshot", "state", "--name", machine.name).returncode == 0
    # On this host the machine would go on as a whole.
    monkeypatch.setattr(turns, "_CPUS_A_HOST_CPU", 0)
    again = from_snapshot("state", name=f"{machine.name}-again")
    try:
        _assert_right_time(again)
        _all_is_well(again)
    finally:
        again.down()


_START, _SETTING = "Linux version", "the time of day was set for all kernels"


def _said(machine: Machine, id: int, words: str) -> int:
    """How many lines of a kernel's console have these words."""
    return sum(words in entry.text for entry in machine.log(id))


def _all_is_well(again: Machine) -> None:
    ids = {partition.id for partition in again.plan.partitions}
    for via in ("net", "vty"):
        done = popcorn("exec", "--name", again.name, "--via", via, "all", "--", "sh", "-c", "echo fine")
        assert done.returncode == 0, f"{via}: {done.stderr}"
        assert done.stdout.count("fine") == len(ids)
    for kernel in again.ps():
        assert (kernel.state, kernel.health) == ("running", "ok")
        assert kernel.heartbeat_age_s is not None
        assert kernel.heartbeat_age_s < 10
        assert kernel.uptime_s is not None
        assert abs(kernel.uptime_s - float(Kernel(again, kernel.id).shell("cat /proc/uptime").split()[0])) < 5
    assert popcorn("diagnose", "--name", again.name).returncode == 0
    times = [entry.time_s for entry in again.log(0)]
    assert times == sorted(times)


def test_a_snapshot_that_does_not_fit_or_is_damaged_is_refused(
    boot: tuple[str, ...], private_dirs: Path, saved: Path
) -> None:
    try:
        assert popcorn(*boot).returncode == 0
        assert popcorn("snapshot", "state").returncode == 0
        again = popcorn("snapshot", "state")
        assert again.returncode == 2
        assert "there is a snapshot 'state' already" in again.stderr
    finally:
        popcorn("down", "--all")
    (listed,) = json.loads(popcorn("snapshot", "ls", "--json").stdout)
    assert (listed["name"], listed["machine"], listed["kernels"]) == ("state", "two", [0, 1])
    other = popcorn("up", "--from", "state", *boot[1:3], "--policy", "smp")
    assert other.returncode == 2, other.stderr
    assert "does not fit: its plan is another one" in other.stderr
    path = saved / "state.snapshot"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = popcorn("up", "--from", "state")
    assert damaged.returncode == 2, damaged.stderr
    assert "state.snapshot is corrupted" in damaged.stderr
    assert len([run for run in (private_dirs / "runs").iterdir() if run.name != "last"]) == 1, "of the boot alone"
    assert machines() == []
    assert qemus(private_dirs) == []
    removed = popcorn("snapshot", "rm", "state")
    assert removed.returncode == 0, removed.stderr
    assert list(saved.iterdir()) == []
    missing = popcorn("up", "--from", "state")
    assert missing.returncode == 2
    assert "there is no snapshot 'state'" in missing.stderr


def test_commands_that_are_killed_leave_nothing_and_the_machine_goes_on(private_dirs: Path, saved: Path) -> None:
    try:
        assert popcorn(*_CLUSTERS).returncode == 0
        with started("snapshot", "state", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + _START_S
            while not (saved / "state.snapshot.partial").exists():
                assert process.poll() is None, "it ended before it wrote anything"
                assert time.monotonic() < deadline
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=_GONE_S)
        assert json.loads(popcorn("snapshot", "ls", "--json").stdout) == []
        answer = popcorn("exec", "all", "--", "sh", "-c", "exit 0")
        assert answer.returncode == 0, answer.stderr
        done = popcorn("snapshot", "state")
        assert done.returncode == 0, done.stderr
    finally:
        popcorn("down", "--all")
    with started("up", "--from", "state", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not qemus(private_dirs):
            assert process.poll() is None, "it ended before QEMU was seen"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=_GONE_S)
        await_no_qemu(private_dirs, _GONE_S)


@pytest.fixture
def no_automatic_ones(private_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with all but the automatic snapshots, for which it has a folder of its own."""
    cache, whole = private_dirs / "cache", cache_dir()
    cache.mkdir()
    for entry in whole.iterdir():
        if entry.name != "snapshots":
            (cache / entry.name).symlink_to(entry)
    monkeypatch.setenv("POPCORN_CACHE", str(cache))
    return cache / "snapshots"


def test_up_goes_on_from_the_same_machine_when_it_had_booted(boot: tuple[str, ...], no_automatic_ones: Path) -> None:
    def up(*more: str) -> subprocess.CompletedProcess[str]:
        done = popcorn(*boot, *more)
        assert done.returncode == 0, done.stderr
        assert popcorn("exec", "all", "--", "sh", "-c", "exit 0").returncode == 0
        assert popcorn("down").returncode == 0
        return done

    assert "not booted" not in up("--cold").stdout
    assert not no_automatic_ones.exists()
    assert "not booted" not in up().stdout
    (path,) = no_automatic_ones.iterdir()
    assert "not booted: it goes on from where it was saved when it had booted" in up().stdout
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    damaged = up()
    assert "not booted" not in damaged.stdout
    assert "its snapshot is of no use: the snapshot" in damaged.stderr
    assert "is corrupted" in damaged.stderr
    assert list(no_automatic_ones.iterdir()) == [path], "a new one is in its place"
    assert "not booted" in up().stdout
