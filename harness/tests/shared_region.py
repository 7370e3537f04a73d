# SPDX-License-Identifier: Apache-2.0
"""A shared region as kernels would write it, made through the contract header's own types."""

from __future__ import annotations

import functools
from typing import Any

from popcorn.dirs import source_root
from popcorn.machine.layout import Layout, Region

START = 0x6DE00000
SIZE = 2 << 20


def contract_header() -> str:
    """The header as the kexec series carries it; another test compares it with the kernel's."""
    (patch,) = (source_root() / "tools/kexec-popcorn").glob("0001-*contract-header.patch")
    lines = patch.read_text(encoding="utf-8").splitlines()
    return "".join(line[1:] + "\n" for line in lines if line.startswith("+") and not line.startswith("+++"))


@functools.cache
def _contract() -> Layout:
    return Layout(contract_header())


class WrittenRegion:
    """The writing side of a region: what kernels do, for tests."""

    def __init__(self, nr_kernels: int = 4, memory: Any = None, *, start: int = START) -> None:
        self.layout = _contract()
        self.start = start
        ffi = self.layout.ffi
        self.memory = memory if memory is not None else bytearray(SIZE)
        self.header = ffi.cast("struct popcorn_header *", ffi.from_buffer(self.memory))
        self.log_size = self.layout.constants["POPCORN_LOG_SIZE"]
        self.header.version = self.layout.version
        self.header.nr_kernels = nr_kernels
        self.header.start = start
        self.header.size = len(self.memory)
        self.header.slot_offset = 0x10000
        self.header.slot_stride = 4096
        self.header.log_offset = 0x10000 + nr_kernels * 4096
        self.header.log_stride = self.log_size
        self.header.magic = self.layout.magic

    def region(self) -> Region:
        """The reading side."""
        return Region(self.layout, self.memory, self.start)

    def slot(self, id: int) -> Any:
        """A kernel's slot, to write to."""
        ffi = self.layout.ffi
        base = ffi.cast("char *", self.header)
        return ffi.cast("struct popcorn_slot *", base + self.header.slot_offset + id * self.header.slot_stride)

    def set(self, id: int, state: str, stage: str) -> Any:
        """Put a kernel into a state and a stage."""
        slot = self.slot(id)
        slot.state = self.layout.constants[f"POPCORN_STATE_{state.upper()}"]
        slot.stage = self.layout.constants[f"POPCORN_STAGE_{stage.upper()}"]
        slot.generation = max(slot.generation, 1)
        return slot

    def log(self, id: int, data: bytes) -> None:
        """Print on a kernel's console."""
        self.begin_log(id, data, len(data))
        self.slot(id).log_head += len(data)

    def begin_log(self, id: int, data: bytes, claimed: int) -> None:
        """Claim so many bytes of a kernel's console and write the first of them, as a writer that is interrupted."""
        slot = self.slot(id)
        slot.log_claimed = slot.log_head + claimed
        base = self.header.log_offset + id * self.log_size
        for number, byte in enumerate(data, slot.log_head):
            self.memory[base + number % self.log_size] = byte
