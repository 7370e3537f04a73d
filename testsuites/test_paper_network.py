# SPDX-License-Identifier: Apache-2.0
"""Forty-eight kernels on one network: each reaches each, all work side by side, a large file arrives."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command import popcorn

from popcorn.image.programs import suite_program
from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of
from popcorn.testing import Kernel

pytestmark = pytest.mark.machine("paper", policy="per-core")

Report = Callable[[str, object], None]
_MIB = 1 << 20
# More than all queues and windows on its way hold together.
_FILE_BYTES = 32 * _MIB
_PINGS = 3


def test_each_of_the_kernels_reaches_each_other_one_and_no_packet_is_lost(
    machine: Machine, kernels: list[int], record_property: Report
) -> None:
    program = suite_program("mesh").read_bytes()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda connection: connection.put(program, "/tmp/mesh", 0o755), map(machine.ssh, kernels)))
    addresses = [str(address_of(id).v4) for id in kernels]
    script = f"exec /tmp/mesh $(sed -n 's/^id: *//p' /proc/popcorn/self) {_PINGS} {' '.join(addresses)}"
    began = time.monotonic()
    answers = machine.exec_all(["sh", "-c", script], timeout_s=240, via="net")
    record_property("mesh_s", round(time.monotonic() - began, 1))
    assert sorted(answers) == kernels
    expected = [f"{address} {_PINGS} {_PINGS}" for address in addresses]
    for id, done in answers.items():
        assert done.stdout_text.splitlines() == expected, f"from kernel {id}: {done.stdout_text}{done.stderr_text}"


def test_commands_in_all_kernels_run_side_by_side(
    machine: Machine, kernels: list[int], record_property: Report
) -> None:
    began = time.monotonic()
    done = popcorn("exec", "--name", machine.name, "--via", "net", "all", "--", "hostname")
    record_property("exec_all_s", round(time.monotonic() - began, 1))
    assert done.returncode == 0, done.stderr
    names = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert names == ["primary", *(f"kernel-{id}" for id in kernels[1:])]
    sleep = ["sleep", "3"]
    began = time.monotonic()
    assert machine.exec(kernels[-1], sleep, timeout_s=120, via="net").status == 0
    one_s = time.monotonic() - began
    began = time.monotonic()
    answers = machine.exec_all(sleep, timeout_s=120, via="net")
    all_s = time.monotonic() - began
    assert {id for id, answer in answers.items() if answer.status} == set()
    assert all_s < one_s * len(kernels) / 6


def test_a_large_file_arrives_in_a_kernel_and_comes_back(
    machine: Machine,
    kernels: list[int],
    kernel: Callable[[int], Kernel],
    tmp_path: Path,
    record_property: Report,
) -> None:
    id = kernels[-1]
    source, back = tmp_path / "source", tmp_path / "back"
    content = os.urandom(_FILE_BYTES)
    source.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    for direction, words in (("in", [str(source), f"{id}:/tmp/large"]), ("out", [f"{id}:/tmp/large", str(back)])):
        began = time.monotonic()
        done = popcorn("cp", "--name", machine.name, *words, timeout_s=600)
        record_property(f"cp_{direction}_s", round(time.monotonic() - began, 1))
        assert done.returncode == 0, done.stderr
    assert kernel(id).shell("sha256sum </tmp/large; rm /tmp/large").split()[0] == digest
    assert back.read_bytes() == content
