# SPDX-License-Identifier: Apache-2.0
"""What kernels that have joined tell the others in the registry, seen from outside; all of it may be nonsense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popcorn.errors import UserError
from popcorn.machine.layout import load_layout
from popcorn.machine.memory import GuestMemory
from popcorn.machine.registry import Record


@dataclass(frozen=True)
class Peer:
    """A kernel's entry in the registry. Addresses are physical, 0 for what it has not."""

    start: int
    """Where the entry lies."""
    size: int
    inbox: int
    netbox: int


def peer_of(record: Record, memory: GuestMemory, id: int) -> Peer:
    """The entry of a kernel of the plan.

    Raises:
        UserError: it does not lie in the machine's memory.
        HostError: the kernel's header cannot be read.
    """
    header = _read(record, memory, "popcorn_header", record.region_start)
    start = record.region_start + header.peer_offset + id * header.peer_stride
    entry = _read(record, memory, "popcorn_peer", start)
    return Peer(start, load_layout(Path(record.header)).ffi.sizeof(entry[0]), entry.inbox, entry.netbox)


def says_network_is_down(record: Record, memory: GuestMemory, id: int) -> bool:
    """Whether a kernel's network is not up, by its own words; who says nothing does not deny it.

    Raises:
        HostError: as for `peer_of`.
    """
    if not record.region_size:
        return False
    try:
        netbox = peer_of(record, memory, id).netbox
        box = _read(record, memory, "popcorn_netbox", netbox, upto="ring") if netbox else None
    except UserError:
        return False
    magic = load_layout(Path(record.header)).constants.get("POPCORN_NETBOX_MAGIC")
    return box is not None and (box.magic, box.owner, box.open) == (magic, id, 0)


def _read(record: Record, memory: GuestMemory, kind: str, start: int, *, upto: str = "") -> Any:
    """A private copy of a structure, or of its members before ``upto``."""
    ffi = load_layout(Path(record.header)).ffi
    size = ffi.offsetof(f"struct {kind}", upto) if upto else ffi.sizeof(f"struct {kind}")
    copy = ffi.new(f"struct {kind} *")
    ffi.buffer(copy)[:size] = memory.read(start, size)
    return copy
