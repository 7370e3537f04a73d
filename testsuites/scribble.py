# SPDX-License-Identifier: Apache-2.0
"""Overwriting what a kernel shares with others, as one that failed could: from the host, in the machine's memory."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from popcorn.machine.layout import load_layout
from popcorn.machine.machine import Machine
from popcorn.machine.peers import peer_of

# That break careless arithmetic; the others are any.
_NASTY = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 256, 65537)


@dataclass(frozen=True)
class Target:
    """Guest-physical memory, in bytes."""

    start: int
    size: int


def targets(machine: Machine, id: int) -> dict[str, Target]:
    """What other kernels write to, or might, of a kernel that has joined: by name."""
    ffi = load_layout(Path(machine.record.header)).ffi
    peer = peer_of(machine.record, machine.memory, id)

    def rings(box: str, address: int, payload: str) -> Target:
        begin = ffi.offsetof(f"struct {box}", "armed")
        return Target(address + begin, ffi.offsetof(f"struct {box}", payload) - begin)

    return {
        # All but the payloads, which may be anything anyway.
        "inbox": rings("popcorn_inbox", peer.inbox, "bulk"),
        "netbox": rings("popcorn_netbox", peer.netbox, "small"),
        "registry": Target(peer.start, peer.size),
    }


class Scribbler:
    """Writes to the memory of a machine; a context manager."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._memory = machine.memory
        self._random = random.Random(seed)
        supervisor = machine.record.supervisor_pid
        self._nodes = [
            os.open(f"/proc/{supervisor}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC) for fd, _ in machine.record.nodes
        ]

    def __enter__(self) -> Scribbler:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._nodes:
            os.close(fd)

    def scribble(self, target: Target, words: int) -> None:
        """Overwrite so many 32-bit words of a target."""
        for _ in range(words):
            word = self._random.choice((self._random.randrange(1 << 32), self._random.choice(_NASTY)))
            self.write(target.start + 4 * self._random.randrange(target.size // 4), word.to_bytes(4, "little"))

    def write(self, address: int, content: bytes) -> None:
        """Write to guest-physical memory, within one page."""
        (extent,) = self._memory.extents(address, len(content))
        os.pwrite(self._nodes[extent.node], content, extent.offset)
