# SPDX-License-Identifier: Apache-2.0
"""`kill -9` at any time: no orphan, no half-written artifact is used, the next command works, what was recorded stays.

Each stage is killed three times at times that a seed gives, twenty times with POPCORN_SLOW=1; by turns the process
alone, and with all that share its process group, as a terminal's job is. `harness/tests/test_chaos.py` kills at each
step of what needs no machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from command import POPCORN, await_no_qemu, machines, popcorn, qemus
from kills import Kill, kills

from popcorn.build import store
from popcorn.config import load_machine
from popcorn.dirs import cache_dir, source_root
from popcorn.errors import PopcornError
from popcorn.machine.assemble import kernel_files
from popcorn.machine.control import ask
from popcorn.machine.recorded import recorded_events
from popcorn.machine.registry import DEFAULT_NAME, find, last_run
from popcorn.plan import make_plan
from popcorn.run.results import read_results

_GONE_S = 8.0
_COMMAND_S = 240.0
# What boots fastest: a kernel on each of two CPUs.
_POLICY = "0;4"
_SMALL = ("--machine", "small", "--policy", _POLICY, "--accel", "tcg")
_UP = ("up", *_SMALL, "--cold")
_DEMO = ("demo", *_SMALL)


def ended_by(argv: Sequence[str], kill: Kill, whole_s: float) -> int:
    """Run a command and kill it; its exit status, which is -SIGKILL if it was still there to be killed.

    Args:
        whole_s: what it takes when it is let be.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            process.wait(timeout=kill.share * whole_s)
        except subprocess.TimeoutExpired:
            if kill.group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        return process.wait(timeout=_GONE_S)


def kill_in_time(argv: Sequence[str], kill: Kill, whole_s: float, *, ended: Callable[[], object] = str) -> None:
    """Kill a command before it has ended: sooner if need be, as it may have taken longer when it was measured.

    One that does not end well is no such case.

    Args:
        whole_s: as for `ended_by`; what it took once, on a host that others use.
        ended: does away with what a command that was too fast has left.
    """
    for hurry in (0.8, 0.5, 0.25):
        status = ended_by(argv, kill, hurry * whole_s)
        if status == -signal.SIGKILL:
            return
        assert status == 0, kill
        ended()
    raise AssertionError(f"{kill}: it had ended, each time")


def _seconds(command: Callable[[], subprocess.CompletedProcess[str]]) -> float:
    began = time.monotonic()
    done = command()
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def ours(place: Path) -> list[str]:
    """All processes that were started with the folders of a test, but for this one and the test's own helpers."""
    runtime = str(place / "rt")
    # What watches the folders, and what commands are forked off (`forked`) if this test is the first to use it.
    helpers = ("read -r done", "from multiprocessing.")
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        environment, words = process.info["environ"] or {}, process.info["cmdline"] or []
        mine = environment.get("XDG_RUNTIME_DIR") == runtime and process.info["status"] != psutil.STATUS_ZOMBIE
        line = " ".join(words)
        if mine and process.pid != os.getpid() and not any(helper in line for helper in helpers):
            found.append(f"{process.pid}: {line[:150]}")
    return found


def await_none(place: Path, *, but: int = 0) -> None:
    """Wait until nothing runs for a test, but for so many processes."""
    deadline = time.monotonic() + _GONE_S
    while len(left := ours(place)) > but:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@contextmanager
def _down_at_the_end() -> Iterator[None]:
    try:
        yield
    finally:
        popcorn("down", "--all")


def _assert_store_is_whole() -> None:
    for kind in (cache_dir() / "store").iterdir():
        for entry in store.entries(kind.name):
            store.check(entry)


def test_build(private_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_files(make_plan(load_machine("small"), _POLICY))
    cache, whole = private_dirs / "cache", cache_dir()
    # Everything but images and programs is there already.
    (cache / "store").mkdir(parents=True)
    for entry in [*whole.iterdir(), *(whole / "store").iterdir()]:
        if entry.name not in ("store", "image", "program", "locks"):
            (cache / entry.relative_to(whole)).symlink_to(entry)
    monkeypatch.setenv("POPCORN_CACHE", str(cache))
    build = [*POPCORN, "build", "images", "--rebuild"]
    whole_s = _seconds(lambda: popcorn("build", "images", "--rebuild"))
    before = {entry: store.load_manifest(entry).files for entry in store.entries("image")}
    for kill in kills("build"):
        assert ended_by(build, kill, whole_s) in (0, -signal.SIGKILL), kill
        await_none(private_dirs)
        _assert_store_is_whole()
        # A rebuild that is killed costs nobody the entry that was there.
        assert {entry: store.load_manifest(entry).files for entry in store.entries("image")} == before, kill
    assert popcorn("build", "images", "--rebuild").returncode == 0
    assert [path for path in store.store_dir("image").iterdir() if path.name.endswith(".partial")] == []


def test_commands_on_a_machine_and_boot(private_dirs: Path) -> None:
    with _down_at_the_end():
        whole_s = _seconds(lambda: popcorn(*_UP))
        machine = len(ours(private_dirs))
        command = ("exec", "all", "--", "sh", "-c", "echo begun; exec sleep 7654")
        for kill in kills("exec"):
            assert ended_by([*POPCORN, *command], kill, 4.0) == -signal.SIGKILL, kill
            await_none(private_dirs, but=machine)
        _await_no_sleepers()
        assert [listed["status"] for listed in machines()] == ["up"]
        assert popcorn("down").returncode == 0
        for kill in kills("boot"):
            kill_in_time([*POPCORN, *_UP], kill, whole_s, ended=lambda: popcorn("down"))
            if _was_kept():
                # It had come up, and `up` had only to say so.
                assert popcorn("exec", "all", "--", "true").returncode == 0, kill
                assert popcorn("down").returncode == 0
            await_none(private_dirs)
            await_no_qemu(private_dirs, 0)
            assert all(listed["status"] == "dead" for listed in machines()), kill
        assert popcorn(*_UP).returncode == 0
        assert popcorn("exec", "all", "--", "true").returncode == 0
        # What was killed left nothing in the runtime directory, which may be memory.
        left = [path.name for path in (private_dirs / "rt" / "popcorn" / "machines").iterdir() if path.is_dir()]
        assert left == ["default"]


def _was_kept() -> bool:
    """Whether a machine was to stay up when the command that booted it was killed."""
    with suppress(PopcornError):
        return bool(ask(find(DEFAULT_NAME), "status")["kept"])
    return False


def _await_no_sleepers() -> None:
    # A command ends with its connection: see popcorn-leash.
    deadline = time.monotonic() + 30
    while "sleep 7654" in (seen := popcorn("exec", "all", "--", "ps").stdout):
        assert time.monotonic() < deadline, seen


def test_suite(private_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source_root())
    test = "testsuites/test_smoke.py::test_every_kernel_has_the_cpus_of_its_partition[6.12]"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", test]
    with _down_at_the_end():
        whole_s = _seconds(
            lambda: subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_COMMAND_S)
        )
        for kill in kills("suite"):
            kill_in_time(argv, kill, whole_s)
            await_none(private_dirs)
            assert all(listed["status"] == "dead" for listed in machines()), kill


def test_report(private_dirs: Path) -> None:
    """The whole of `demo`: boot, benchmark, results and report."""
    with _down_at_the_end():
        whole_s = _seconds(lambda: popcorn(*_DEMO, timeout_s=_COMMAND_S))
        whole = _recorded()
        for kill in kills("report"):
            # The boot is killed elsewhere. Each of these begins after one that was killed.
            late = Kill(0.5 + kill.share / 2, kill.group)
            was_killed = ended_by([*POPCORN, *_DEMO], late, whole_s) != 0
            await_none(private_dirs)
            found = _recorded()
            assert set(found) <= set(whole)
            assert len(found) == len(whole) or was_killed
            run = last_run("demo")
            assert recorded_events(run)[-1]["event"] == "ended"
            if (run / "report.html").is_file():
                assert (run / "report.html").read_text().rstrip().endswith("</html>")
        assert popcorn("report", run.name).returncode == 0, "of what was recorded before the last kill"


def _recorded() -> list[tuple[str, int | None]]:
    """What the last run measured; that it can be read is part of the test."""
    return [(one.metric, one.kernel) for one in read_results(last_run("demo"))]


def test_two_machines_at_once_do_not_collide(private_dirs: Path) -> None:
    with _down_at_the_end():
        both = [
            subprocess.Popen(
                [*POPCORN, *_UP, "--name", name], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for name in ("one", "other")
        ]
        said = [process.communicate(timeout=_COMMAND_S) for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        assert {listed["name"] for listed in machines()} == {"one", "other"}
        for name in ("one", "other"):
            assert popcorn("exec", "--name", name, "all", "--", "true").returncode == 0
        assert len(qemus(private_dirs)) == 2
