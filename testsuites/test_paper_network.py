# SPDX-License-Identifier: Apache-2.0
"""Many kernels on one network: each of the paper's 48 reaches each, all work side by side, a large file arrives."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import popcorn

from popcorn.image.programs import suite_program
from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of
from popcorn.testing import Kernel

Report = Callable[[str, object], None]
_MIB = 1 << 20
# More than all queues and windows on its way hold together.
_FILE_BYTES = 16 * _MIB
_PINGS = 2
_SLEEP_S = 10
_HANDSHAKE_S = 10
_PORT = 8000
_PAPER = pytest.mark.machine("paper", policy="per-core")
# What takes as long as there are kernels is tried with a few, too.
_SIZES = [
    pytest.param(None, marks=pytest.mark.machine("small", policy="per-core"), id="small"),
    pytest.param(None, marks=[_PAPER, pytest.mark.slow], id="paper"),
]


@_PAPER
def test_each_of_the_kernels_reaches_each_other_one_and_no_packet_is_lost(
    machine: Machine, kernels: list[int], record_property: Report
) -> None:
    # By terminal lines: a handshake of ssh with each takes longer than all of this.
    primary, *_ = addresses = [str(address_of(id).v4) for id in kernels]
    machine.primary.put(suite_program("mesh").read_bytes(), "/tmp/served/mesh", 0o755)
    script = (
        f"busybox wget -q -O /tmp/mesh http://{primary}:{_PORT}/mesh && chmod +x /tmp/mesh && "
        f"/tmp/mesh $(sed -n 's/^id: *//p' /proc/popcorn/self) {_PINGS} {' '.join(addresses)}; rm /tmp/mesh"
    )
    began = time.monotonic()
    with machine.primary.command(["busybox", "httpd", "-f", "-p", f"{primary}:{_PORT}", "-h", "/tmp/served"]):
        # Kernels that are up answer whether they ask by then or not.
        answers = machine.exec_all(["sh", "-c", script], timeout_s=240, via="vty", together=False)
    record_property("mesh_s", round(time.monotonic() - began, 1))
    assert sorted(answers) == kernels
    expected = [f"{address} {_PINGS} {_PINGS}" for address in addresses]
    for id, done in answers.items():
        assert done.stdout_text.splitlines() == expected, f"from kernel {id}: {done.stdout_text}{done.stderr_text}"


@pytest.mark.parametrize("_size", _SIZES)
def test_commands_in_all_kernels_run_side_by_side(
    _size: None, machine: Machine, kernels: list[int], record_property: Report
) -> None:
    began = time.monotonic()
    words = ["sh", "-c", f"hostname; sleep {_SLEEP_S}"]
    done = popcorn("exec", "--name", machine.name, "--via", "net", "all", "--", *words)
    all_s = time.monotonic() - began
    record_property("exec_all_s", round(all_s, 1))
    assert done.returncode == 0, done.stderr
    names = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert names == ["primary", *(f"kernel-{id}" for id in kernels[1:])]
    # Handshakes and all; two at a time they would sleep twice as long.
    assert all_s < _SLEEP_S * len(kernels) / 4 + _HANDSHAKE_S


@pytest.mark.parametrize("_size", _SIZES)
def test_a_large_file_arrives_in_a_kernel_and_comes_back(
    _size: None,
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
