# SPDX-License-Identifier: Apache-2.0
"""What is kept of a machine's memory when its QEMU has ended; what was never touched stays a hole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from popcorn.machine.memory import GuestMemory, NodeMemory

REGION_DUMP = "region.bin"


def memory_file(node: int) -> str:
    """What the memory of a node is saved as."""
    return f"memory-node{node}.bin"


def save_range(memory: GuestMemory, start: int, size: int, path: Path) -> None:
    """Write a range of physical memory into a file of that size.

    Raises:
        OSError: it could not be written.
        UserError: it is no memory of the machine.
    """
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(out, size)
        memory.copy_used(start, size, out, 0)
    finally:
        os.close(out)


def save_memory(nodes: Sequence[NodeMemory], run_dir: Path) -> None:
    """Write all memory, so that a machine's kernels can be looked at as if it were up; all of it or nothing.

    Raises:
        OSError: it could not be written.
    """
    try:
        for number, node in enumerate(nodes):
            # A node by itself is memory without a hole.
            save_range(GuestMemory([node], node.size), 0, node.size, run_dir / memory_file(number))
    except OSError:
        for number in range(len(nodes)):
            (run_dir / memory_file(number)).unlink(missing_ok=True)
        raise
