# SPDX-License-Identifier: Apache-2.0
"""Killed at any step, a command leaves nothing half-made that is taken for whole, and the next command works.

What is killed runs in a process of its own; `testsuites/test_chaos.py` does the same to commands with real machines.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from fake_machine import Boot
from killpoints import HERE, KILLS, Started, run_to, some_of, steps_of
from some_run import manifest

from popcorn.build import store
from popcorn.dirs import cache_dir, runs_dir
from popcorn.image import keys
from popcorn.machine import registry
from popcorn.machine.machine import Machine
from popcorn.machine.recorded import recorded_events
from popcorn.report.page import REPORT_FILE, write_report
from popcorn.run.results import Measurement, Results, read_results

_CONTENT = "whole" * 1000
_BUILD = f"""
from popcorn.build import store
def build(into):
    for name in "abc":
        (into / name).write_text({_CONTENT!r})
    (into / "link").symlink_to("a")
{{before}}
begin()
store.get_or_build("thing", {{{{}}}}, build, rebuild={{rebuild}})
"""
_FRESH = _BUILD.format(before="", rebuild=False)
_AGAIN = _BUILD.format(before='store.get_or_build("thing", {}, build)', rebuild=True)

_KEYS = """
from popcorn.image import keys
begin()
keys()
"""

_REPORT = """
from pathlib import Path
from popcorn.report.page import write_report
begin()
write_report(Path({run!r}))
"""

_RESULTS = """
import sys
from pathlib import Path
from popcorn.run.results import Measurement, Results
with Results(Path(sys.argv[1]), "chaos") as results:
    for number in range(100_000):
        results.add(Measurement("number", float(number), "1"))
        print(number, flush=True)
"""

_RECORDER = """
import sys
from pathlib import Path
from popcorn.machine.recorder import Recorder
recorder = Recorder(None, Path(sys.argv[1]))
for number in range(100_000):
    recorder.event("number", number=number)
    print(number, flush=True)
"""

_UP = """
from fake_machine import boot_files, two_kernels
from popcorn.machine.boot import up
files, plan = boot_files(), two_kernels()
begin()
up(plan, files, accel="tcg").close()
"""
_GONE_S = 5.0
# Until a program runs that was started beside others; not what is tested.
_START_S = 60.0


def _build(into: Path) -> None:
    for name in "abc":
        (into / name).write_text(_CONTENT)
    (into / "link").symlink_to("a")


def _assert_whole_or_missing() -> None:
    entry = store.find("thing", {})
    if entry is not None:
        assert (entry / "a").read_text() == _CONTENT
    for one in store.entries("thing"):
        store.check(one)


@pytest.mark.parametrize("script", [_FRESH, _AGAIN], ids=["first build", "rebuild"])
def test_a_build_that_is_killed_leaves_an_entry_whole_or_none(script: str, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    nr_steps = steps_of(script, lambda: _clear("store"))
    # The last steps are those in which it is made visible.
    for step in sorted({*some_of(nr_steps, name), *range(nr_steps - 4, nr_steps)}):
        killed = run_to(step, script)
        assert killed.returncode == -signal.SIGKILL, f"step {step} of {nr_steps}: {killed.stderr}"
        _assert_whole_or_missing()
        if script is _AGAIN:
            assert store.find("thing", {}) is not None, f"step {step}: a rebuild that was killed lost the entry"
        assert store.get_or_build("thing", {}, _build) == store.find("thing", {})
        store.get_or_build("thing", {"other": True}, _build)
        left = sorted(path.name for path in store.store_dir("thing").iterdir() if not path.name.endswith(".seen"))
        assert left == sorted(store.entry_key("thing", inputs) for inputs in ({}, {"other": True})), f"step {step}"
        _clear("store")


def _clear(name: str) -> None:
    shutil.rmtree(cache_dir() / name, ignore_errors=True)


def test_keys_that_were_being_made_by_a_command_that_was_killed_are_made() -> None:
    for step in some_of(steps_of(_KEYS, lambda: _clear("keys")), "keys"):
        assert run_to(step, _KEYS).returncode == -signal.SIGKILL
        assert keys().client.stat().st_mode & 0o777 == 0o600
        _clear("keys")


def test_a_report_that_is_killed_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    manifest().save(tmp_path)
    with Results(tmp_path, "demo") as results:
        results.add(*(Measurement("boot.wall", 1.0 + id, "s", id) for id in range(8)))
    script = _REPORT.format(run=str(tmp_path))
    path = tmp_path / REPORT_FILE
    for step in some_of(steps_of(script, path.unlink, runs=1), "report"):
        path.write_text("the old one</html>")
        assert run_to(step, script).returncode == -signal.SIGKILL
        assert path.read_text().rstrip().endswith("</html>"), f"step {step}"
    assert "the old one" not in write_report(tmp_path).read_text()


def _acknowledged(script: str, folder: Path, kill: int) -> int:
    """The last number that a script said to have written when it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    ) as process:
        assert process.stdout is not None
        for _ in range(kill):
            assert process.stdout.readline(), "it ended by itself"
        process.kill()
        said = process.stdout.read().split("\n")[:-1]
    return int(said[-1]) if said else kill - 1


@pytest.mark.parametrize("kill", some_of(60, "results"))
def test_results_recorded_before_a_kill_are_there_and_can_be_added_to(kill: int, tmp_path: Path) -> None:
    last = _acknowledged(_RESULTS, tmp_path, kill + 1)
    found = [one.value for one in read_results(tmp_path)]
    assert found[: last + 1] == list(range(last + 1))
    assert len(found) <= last + 2
    with Results(tmp_path, "after") as results:
        results.add(Measurement("number", -1.0, "1"))
    assert read_results(tmp_path)[-1].value == -1.0
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("kill", some_of(300, "recorder"))
def test_events_recorded_before_a_kill_are_there(kill: int, tmp_path: Path) -> None:
    last = _acknowledged(_RECORDER, tmp_path, kill + 1)
    assert [event["number"] for event in recorded_events(tmp_path)][: last + 1] == list(range(last + 1))


def _ours() -> list[str]:
    """What runs for the machines of this test: supervisors and stand-ins for QEMU."""
    mark = f"XDG_RUNTIME_DIR={os.environ['XDG_RUNTIME_DIR']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Most are others', and this is asked often. One that has ended has nothing to read.
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0") and process.name != str(os.getpid()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{process.name}: {words[:120]}")
    return found


def _await(condition: Callable[[], bool], what: Callable[[], object], within_s: float = _GONE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def _machines_left() -> list[str]:
    return [path.name for path in registry.machines_dir().iterdir() if path.is_dir()]


@pytest.mark.parametrize("group", [False, True], ids=["process", "process group"])
def test_up_that_is_killed_leaves_neither_qemu_nor_supervisor(
    group: bool,
    boot: Boot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_QEMU", "well")
    for step in some_of(steps_of(_UP, _end_all), f"up {group}"):
        killed = run_to(step, _UP, group=group)
        # How often it asks whether QEMU answers depends on the host: it may have been done before that step.
        early = killed.returncode == 0 and int(killed.stdout.splitlines()[-1]) <= step
        assert early or killed.returncode == -signal.SIGKILL, killed.stderr
        # Kept is what was said to be kept.
        if not any(record.status == "up" for record in registry.records()):
            _await(lambda: not _ours(), _ours)
        _end_all()
    with boot() as machine:
        assert [kernel.state for kernel in machine.ps()] == ["running", "running"]
    assert _machines_left() == []


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_supervisor_that_is_killed_takes_its_qemu_along(
    kill: int,
    boot: Boot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also between the moment when it starts QEMU and that when QEMU would hear of its death."""
    monkeypatch.setenv("FAKE_QEMU", "well")
    with Started(_UP) as started:
        # As early as it can be seen, or some time after.
        _await(lambda: any("popcorn.machine.supervisor" in one for one in _ours()), _ours, _START_S)
        time.sleep(some_of(250, "supervisor")[kill] / 1000)
        for one in _ours():
            if "popcorn.machine.supervisor" in one:
                os.kill(int(one.partition(":")[0]), signal.SIGKILL)
        up = started.ended()
    _await(lambda: not _ours(), _ours)
    # A host that is busy may have let it end before the kill: then it rightly said that the machine is up.
    assert up.returncode != 0 or [record.status for record in registry.records()] == ["dead"], up
    with boot() as machine:
        assert machine.alive()


def _end_all() -> None:
    for record in registry.records():
        if record.status == "dead":
            registry.forget(record.name)
        else:
            Machine(record).down()


def test_what_killed_commands_left_of_machines_is_swept_by_the_next(boot: Boot) -> None:
    without_record = registry.claim("gone")
    (without_record.directory / registry.INITRD).write_bytes(b"large")
    os.close(without_record.lock)
    dead = registry.claim("dead")
    registry.write_record(registry.Record("dead", "up", str(runs_dir())))
    (dead.directory / registry.INITRD).write_bytes(b"large")
    os.close(dead.lock)
    alive = registry.claim("alive")
    (alive.directory / registry.INITRD).write_bytes(b"large")
    with boot():
        assert not without_record.directory.exists()
        assert not (dead.directory / registry.INITRD).exists()
        assert registry.find("dead").status == "dead"
        assert (alive.directory / registry.INITRD).exists()
    os.close(alive.lock)


def test_of_two_commands_at_once_one_gets_the_name(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_QEMU", "well")
    with Started(_UP) as one, Started(_UP) as other, Started(_UP) as third:
        ended = [one.ended(), other.ended(), third.ended()]
    said = [done.stderr for done in ended]
    assert sorted(done.returncode for done in ended) == [0, 1, 1], said
    assert sum("a machine named 'default' is up already" in one for one in said) == 2, said
    assert [record.status for record in registry.records()] == ["up"]
    _end_all()


def test_who_only_looks_does_not_take_a_name() -> None:
    os.close(registry.claim("m").lock)
    looking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time\nfrom popcorn.machine import registry\nend = time.monotonic() + 3\nprint(flush=True)\n"
            "while time.monotonic() < end: registry.is_live('m')\n",
        ],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
    )
    with looking:
        assert looking.stdout is not None
        looking.stdout.readline()
        for _ in range(50):
            os.close(registry.claim("m").lock)
        looking.kill()


def test_commands_that_build_the_same_at_once_build_it_once(tmp_path: Path) -> None:
    script = """
import os, time
from popcorn.build import store
def build(into):
    print("built", flush=True)
    time.sleep(0.5)
    (into / "a").write_text("x")
print(store.get_or_build("thing", {}, build))
"""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    racing = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0].split() for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0]
    assert sum("built" in one for one in said) == 1
    assert len({one[-1] for one in said}) == 1


def test_an_entry_that_is_rebuilt_is_there_at_all_times() -> None:
    store.get_or_build("thing", {}, _build)
    rebuild = _AGAIN.replace("begin()\n", "for _ in range(100):\n    ")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen([sys.executable, "-c", rebuild], env=environment) as rebuilding:
        looked = 0
        while rebuilding.poll() is None:
            assert store.get_or_build("thing", {}, _never).is_dir()
            looked += 1
    assert rebuilding.returncode == 0
    assert looked > 100


def _never(into: Path) -> None:
    raise AssertionError("an entry that is there was built again")
