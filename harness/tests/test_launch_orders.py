# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from pathlib import Path

from popcorn.config import load_machine
from popcorn.config.sizes import GIB
from popcorn.image import Startable
from popcorn.machine.orders import launch_files, memory_file, new_launch_files, pace_file
from popcorn.plan import make_plan

RUNS = dict.fromkeys(range(8), Startable(Path("vmlinux"), Path("image")))


def test_kernels_may_run_different_things() -> None:
    plan = make_plan(load_machine("small"), "0;1;2")
    files = launch_files(plan, {**RUNS, 2: Startable(Path("vmlinux"), Path("image"), "/boot/3.2")})
    assert b"VMLINUX=/boot/vmlinux\n" in files["/etc/popcorn/kernels/1.conf"][0]
    assert b"VMLINUX=/boot/3.2/vmlinux\n" in files["/etc/popcorn/kernels/2.conf"][0]


def test_a_kernels_orders_can_be_sourced_by_a_shell() -> None:
    plan = make_plan(load_machine("small"), "0;1,3;2;4-7", extra_cmdline="a='b c'")
    content, _ = launch_files(plan, RUNS)["/etc/popcorn/kernels/1.conf"]
    script = content.decode() + 'printf "%s|" "$ID" "$CPUS" "$ADDRESS" "$CMDLINE" "$VMLINUX" "$INITRD"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    partition = plan.partition(1)
    window = partition.memory[0]
    expected = ["1", "1,3", f"{window.start:#x}+{window.size:#x}", partition.cmdline]
    assert said.split("|")[:6] == [*expected, "/boot/vmlinux", "/boot/secondary.cpio"]


def test_the_primary_is_told_how_many_may_boot_at_a_time() -> None:
    assert pace_file(3) == {"/etc/popcorn/at-once": (b"3\n", 0o644)}


def test_every_secondary_is_to_be_launched_and_the_primary_is_not() -> None:
    files = launch_files(make_plan(load_machine("small"), "per-core"), RUNS)
    assert files["/etc/popcorn/launch"][0].split() == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert "/etc/popcorn/kernels/0.conf" not in files


def test_a_machine_that_is_cut_anew_gets_the_orders_that_it_would_have_got_at_boot() -> None:
    plan = make_plan(load_machine("small"), "0;1,3;2;4-7")
    files = launch_files(plan, RUNS, RUNS[0])
    usual, mode = files["/etc/popcorn/usual.conf"]
    assert {**new_launch_files(plan, usual), "/etc/popcorn/usual.conf": (usual, mode)} == files


def test_a_primary_of_policy_hotplug_is_told_all_memory_that_it_did_not_boot_with() -> None:
    plan = make_plan(load_machine("paper"), "hotplug")
    assert plan.hotplug is not None
    lines = memory_file(plan)["/etc/popcorn/memory"][0].decode().splitlines()
    added = 0
    for line in lines:
        start, size = (int(number, 0) for number in line.removeprefix("memory add ").split("+"))
        assert any(window.start <= start and start + size <= window.end for window in plan.primary.memory)
        assert size <= GIB
        added += size
    assert added == plan.primary.memory_bytes - sum(window.size for window in plan.hotplug.memory)
    assert memory_file(make_plan(load_machine("small"), "per-core")) == {}
