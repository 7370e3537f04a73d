# SPDX-License-Identifier: Apache-2.0
"""``popcorn run``: a tiny experiment from end to end, one that is stopped and resumed, and virtual machines that share
memory and a network."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command import await_no_qemu, popcorn, started
from little import two_cores

from popcorn.config import load_machine
from popcorn.experiment.protocols import Booted, Setting
from popcorn.experiment.systems.virtual import VirtualMachines
from popcorn.image.programs import suite_program
from popcorn.run.results import RESULTS_FILE, read_trials

_DESCRIPTION = """\
title = "A tiny experiment"
machine = "MACHINE"
systems = ["popcorn", "smp"]
cores = [1, 2]
iterations = 2

[[workloads]]
kind = "npb-copies"
benchmark = "is"
class = "S"

[[claims]]
text = "They are about equal"
ratio = ["popcorn", "smp"]
at_least = 0.5
at_most = 2.0
"""
_TRIALS = 2 * 2 * 2


@pytest.fixture
def description(private_dirs: Path) -> Path:
    path = private_dirs / "tiny.toml"
    path.write_text(_DESCRIPTION.replace("MACHINE", str(two_cores(private_dirs))), encoding="utf-8")
    return path


def test_a_tiny_experiment_is_run_and_reported(description: Path, private_dirs: Path) -> None:
    done = popcorn("run", str(description), "--name", "e", "--accel", "tcg", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["trials"] == {"ok": _TRIALS}
    run_dir = Path(told["run"])
    for row, found in read_trials(run_dir):
        values = {one.metric: one.value or 0.0 for one in found}
        assert values["time"] > 0
        assert values["count.context_switches"] > 0
        assert values["count.page_faults"] > 0
        assert (run_dir / row.manifest).is_file()
        assert b'"verified": true' in (run_dir / row.raw).read_bytes()
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "“They are about equal”" in page
    assert (run_dir / "figures" / "figure-1.pdf").is_file()
    exported = popcorn("results", "export", str(run_dir), "--parquet", "-o", str(private_dirs / "all.parquet"))
    assert exported.returncode == 0, exported.stderr
    await_no_qemu(private_dirs, within_s=10)


def test_a_run_that_is_stopped_keeps_what_had_ended_and_goes_on(description: Path, private_dirs: Path) -> None:
    with started("run", str(description), "--name", "e", "--accel", "tcg", "--systems", "smp") as process:
        (run_dir,) = _await_trials(private_dirs / "runs", 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    await_no_qemu(private_dirs, within_s=10)
    before = [row for row, _ in read_trials(run_dir) if row.kind == "measured"]
    assert 0 < len(before) < _TRIALS // 2
    done = popcorn("run", "--resume", run_dir.name)
    assert done.returncode == 0, done.stderr
    after = [row for row, _ in read_trials(run_dir) if row.kind == "measured"]
    assert after[: len(before)] == before
    assert len(after) == _TRIALS // 2


def _await_trials(runs: Path, count: int) -> list[Path]:
    """The run's folder as soon as so many trials, warm-ups included, are in its results."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [path.parent for path in runs.glob(f"*/{RESULTS_FILE}")]
        if found:
            with closing(sqlite3.connect(found[0] / RESULTS_FILE, timeout=30)) as db:
                if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'trials'").fetchone()[0] and (
                    db.execute("SELECT count(*) FROM trials").fetchone()[0] >= count
                ):
                    return found
        time.sleep(0.02)
    raise AssertionError("no trial was recorded within two minutes")


@pytest.fixture
def guests(private_dirs: Path) -> Iterator[Booted]:
    system = VirtualMachines(Setting("e", load_machine("small"), "6.12", 2))
    with system.boot(system.state(2, False), "tcg", {}, private_dirs / "boot") as booted:
        yield booted


def test_virtual_machines_share_memory_and_a_network(guests: Booted, private_dirs: Path) -> None:
    window = suite_program("window").read_bytes()
    for kernel in guests.kernels:
        guests.put(kernel.id, window, "/tmp/window", 0o755)
    written = guests.run({0: ["/tmp/window", "write", "from the first"]}, 60)[0]
    assert written.status == 0, written.stderr_text
    assert guests.run({1: ["/tmp/window", "read"]}, 60)[1].stdout_text == "from the first\n"
    ping = guests.run({0: ["ping", "-c", "3", "-W", "10", guests.kernels[1].address]}, 60)[0]
    assert ping.status == 0, ping.stdout_text + ping.stderr_text
