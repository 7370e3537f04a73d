# SPDX-License-Identifier: Apache-2.0
"""A kernel that died is told with its cause, looked at from outside, and its memory is kept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import machines, popcorn
from elftools.elf.elffile import ELFFile
from held import held

from popcorn.build.debuginfo import debug_info_of
from popcorn.diagnose.layout import Symbols
from popcorn.errors import GuestError
from popcorn.machine.booted import booted_kernels
from popcorn.machine.machine import Machine
from popcorn.testing import EVERY_SERIES, Kernel

_VICTIM, _HELD = 3, 5
_DEADLINE_S = 90.0
_TITLES = {
    "6.12": ("panic", "panic: sysrq triggered crash"),
    "3.2": ("oops", "NULL pointer dereference in sysrq_handle_crash"),
}
_WORDS = "these are the last words of a kernel"


def _crash(machine: Machine, kernel: Kernel) -> None:
    """Have a kernel die, unless it has already."""
    if _state(machine, kernel.id) != "dead":
        with contextlib.suppress(GuestError):
            kernel.run(["sh", "-c", f"echo {_WORDS} >/dev/kmsg; echo c >/proc/sysrq-trigger"])
    deadline = time.monotonic() + _DEADLINE_S
    while _state(machine, kernel.id) != "dead":
        assert time.monotonic() < deadline, "the kernel did not die of sysrq c"
        time.sleep(0.2)


def _state(machine: Machine, id: int) -> str:
    return next(kernel.state for kernel in machine.ps() if kernel.id == id)


def _await_health(machine: Machine, id: int, health: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while (found := next(kernel.health for kernel in machine.ps() if kernel.id == id)) != health:
        assert time.monotonic() < deadline, f"kernel {id} is {found}, expected {health}"
        time.sleep(0.2)


@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_a_dead_kernel_is_told_and_its_neighbours_are_fine(
    machine: Machine, kernel: Callable[[int], Kernel], series: str
) -> None:
    _crash(machine, kernel(_VICTIM))
    told = popcorn("diagnose", "--name", machine.name, "--json")
    assert told.returncode == 1, told.stderr
    found = {one["kernel"]: one for one in json.loads(told.stdout)["kernels"]}
    assert (found[_VICTIM]["kind"], found[_VICTIM]["title"]) == _TITLES[series]
    assert [id for id, one in found.items() if not one["in_order"]] == [_VICTIM]
    assert popcorn("diagnose", "--name", machine.name, "0,4").returncode == 0


@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_the_core_of_a_dead_kernel_holds_its_memory_where_its_symbols_say(
    machine: Machine, kernel: Callable[[int], Kernel], tmp_path: Path
) -> None:
    _crash(machine, kernel(_VICTIM))
    core = tmp_path / "core"
    done = popcorn("dump", "--name", machine.name, str(_VICTIM), str(core))
    assert done.returncode == 0, done.stderr
    booted = booted_kernels(machine.run_dir)[_VICTIM]
    banner = Symbols(booted.system_map)["linux_banner"]
    with core.open("rb") as file:
        image, owned, *_ = ELFFile(file).iter_segments("PT_LOAD")
        file.seek(image["p_offset"] + banner - image["p_vaddr"])
        assert file.read(256).startswith(f"Linux version {booted.release} ".encode())
        file.seek(owned["p_offset"])
        assert _WORDS.encode() in file.read(owned["p_filesz"])
    assert machine.alive()
    assert kernel(4).shell("echo fine") == "fine\n"


@pytest.mark.machine("small", policy="per-core", scratch=True)
def test_drgn_lists_the_tasks_of_a_dead_kernel(
    machine: Machine, kernel: Callable[[int], Kernel], tmp_path: Path
) -> None:
    drgn = pytest.importorskip("drgn", reason="drgn is not installed: `pip install drgn`")
    linux = pytest.importorskip("drgn.helpers.linux")
    debug_info = debug_info_of(booted_kernels(machine.run_dir)[_VICTIM].key)
    if debug_info is None:
        pytest.skip("debug information takes minutes to build: `popcorn build kernel --debug-info` does")
    _crash(machine, kernel(_VICTIM))
    core = tmp_path / "core"
    assert popcorn("dump", "--name", machine.name, str(_VICTIM), str(core)).returncode == 0
    program = drgn.Program()
    program.set_core_dump(str(core))
    program.load_debug_info([str(debug_info)])
    tasks = {task.comm.string_().decode() for task in linux.for_each_task(program)}
    assert {"init", "kthreadd", "sh"} <= tasks


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is missing: apt-get install gdb")
@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_gdb_sees_a_kernel_by_its_own_page_tables(machine: Machine, kernel: Callable[[int], Kernel]) -> None:
    told = popcorn("gdb", "--name", machine.name, "4", "--", "-batch", "-ex", "p *(long *)&phys_base", "-ex", "bt 1")
    assert told.returncode == 0, told.stderr
    target = next(one for one in machine.plan.partitions if one.id == 4)
    base = int(next(line for line in told.stdout.splitlines() if line.startswith("$1")).split("=")[1])
    # The image is linked at 16 MiB.
    assert any(window.start <= base + (16 << 20) < window.start + window.size for window in target.memory)
    assert "Thread 1.5" in told.stdout
    assert kernel(4).shell("echo fine") == "fine\n"


@pytest.mark.machine("small", policy="per-core", scratch=True)
def test_a_kernel_whose_cpu_stands_still_is_silent_until_it_goes_on(machine: Machine) -> None:
    with held(machine, _HELD):
        _await_health(machine, _HELD, "silent")
        told = popcorn("diagnose", "--name", machine.name, str(_HELD))
        assert told.returncode == 1
        assert f"kernel {_HELD}: silent" in told.stdout
    _await_health(machine, _HELD, "ok")
    assert popcorn("diagnose", "--name", machine.name, str(_HELD)).returncode == 0


def test_the_memory_of_a_machine_whose_qemu_was_killed_is_kept_on_request(private_dirs: Path) -> None:
    up = popcorn("up", "--machine", "small", "--policy", "per-node", "--accel", "tcg", "--keep-memory")
    assert up.returncode == 0, up.stderr
    try:
        record = json.loads((private_dirs / "rt/popcorn/machines/default/record.json").read_text())
        os.kill(record["qemu_pid"], signal.SIGKILL)
        deadline = time.monotonic() + _DEADLINE_S
        while [listed["status"] for listed in machines()] != ["dead"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        told = popcorn("diagnose")
        assert told.returncode == 3
        assert "QEMU was killed by SIGKILL" in told.stdout
        cores = private_dirs / "cores"
        done = popcorn("dump", "all", str(cores))
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in cores.iterdir()) == ["kernel-0.core", "kernel-4.core"]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in cores.iterdir())
    finally:
        popcorn("down", "--all")
