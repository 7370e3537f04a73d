# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess

from popcorn.config import load_machine
from popcorn.machine.orders import launch_files
from popcorn.plan import make_plan


def test_a_kernels_orders_can_be_sourced_by_a_shell() -> None:
    plan = make_plan(load_machine("small"), "0;1,3;2;4-7", extra_cmdline="a='b c'")
    content, _ = launch_files(plan)["/etc/popcorn/kernels/1.conf"]
    script = content.decode() + 'printf "%s|" "$ID" "$CPUS" "$ADDRESS" "$CMDLINE"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    partition = plan.partition(1)
    window = partition.memory[0]
    assert said.split("|")[:4] == ["1", "1,3", f"{window.start:#x}+{window.size:#x}", partition.cmdline]


def test_every_secondary_is_to_be_launched_and_the_primary_is_not() -> None:
    files = launch_files(make_plan(load_machine("small"), "per-core"))
    assert files["/etc/popcorn/launch"][0].split() == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert "/etc/popcorn/kernels/0.conf" not in files
