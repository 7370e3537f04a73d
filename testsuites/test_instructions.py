# SPDX-License-Identifier: Apache-2.0
"""That the emulator's instructions are counted exactly: of a kernel that executes a known number of them."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path

from popcorn.dirs import source_root
from popcorn.machine import qemu
from popcorn.machine.instructions import InstructionFile, Mark
from popcorn.process import dying_with_parent

_LOOPS = 1_000_000
_DEADLINE_S = 120.0
_LINK = ["-m32", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000,--build-id=none,-z,noseparate-code"]


def _marks(folder: Path) -> list[Mark]:
    """What the kernel of `counted/` marks on a machine with two CPUs, of which it uses one."""
    kernel = folder / "counted"
    source = source_root() / "testsuites" / "counted" / "counted.S"
    subprocess.run(["gcc", *_LINK, f"-DLOOPS={_LOOPS}", "-o", kernel, source], check=True)
    counts = InstructionFile.make(folder / "counts", 2)
    words = [qemu.PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
    words += ["-accel", "tcg,thread=multi", "-smp", "2", "-m", "64M", "-kernel", str(kernel), *counts.qemu_options]
    process = subprocess.Popen(dying_with_parent(words))
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while len(counts.marks()) < 4:
            assert process.poll() is None, "QEMU ended"
            assert time.monotonic() < deadline, "the kernel did not come to its end"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    return counts.marks()


def test_each_instruction_is_counted_once_and_a_repeated_one_too(tmp_path: Path) -> None:
    marks = _marks(tmp_path)
    assert [mark.cpu for mark in marks] == [0] * 4
    took = [after.counts[0] - before.counts[0] for before, after in itertools.pairwise(marks)]
    # Each with the instruction that marks.
    assert took == [1 + 2 * _LOOPS + 1, 4 + 1 + 1, 1 + 1 + 1]
