# SPDX-License-Identifier: Apache-2.0
"""Two kernels on a machine of one's own, whose tests share it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from popcorn.machine.machine import Machine
from popcorn.testing import Everywhere, KernelById
from popcorn.testing.singles import Ktap

pytestmark = pytest.mark.machine("two-cores.toml", policy="per-core")


def test_each_kernel_has_a_cpu_of_its_own(kernels: list[int], everywhere: Everywhere) -> None:
    assert everywhere("nproc") == dict.fromkeys(kernels, "1\n")


def test_a_message_goes_there_and_back(kernels: list[int], kernel: KernelById) -> None:
    done = kernel(kernels[0]).run(["popcorn-msg", "ping", str(kernels[1]), "-n", "100"])
    assert done.status == 0, done.stderr_text
    assert json.loads(done.stdout_text)["round_trip"]["median"] > 0


@pytest.mark.machine("two-cores.toml", policy="smp")
def test_one_kernel_can_have_both(kernels: list[int], everywhere: Everywhere) -> None:
    assert everywhere("nproc") == {kernels[0]: "2\n"}


def test_a_program_that_prints_ktap(machine: Machine, kernels: list[int], ktap: Ktap) -> None:
    script = Path(__file__).with_name("selftest.sh").read_text(encoding="utf-8")
    for id in kernels:
        done = machine.exec(id, ["sh", "-c", script], timeout_s=60)
        assert [one.name for one in ktap(done.stdout_text.splitlines(), f"kernel-{id}")] == [
            "cpus",
            "popcorn",
            "graphics",
        ]


@pytest.mark.kvm
def test_on_kvm_where_it_works(kernels: list[int], everywhere: Everywhere) -> None:
    assert all(int(text) > 0 for text in everywhere("grep -c hypervisor /proc/cpuinfo").values())
