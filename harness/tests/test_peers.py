# SPDX-License-Identifier: Apache-2.0
"""What the registry says of a kernel, read from outside, whatever stands there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shared_region import SIZE, START, WrittenRegion, contract_header

from popcorn.errors import UserError
from popcorn.machine.peers import peer_of, says_network_is_down

_ID = 2


@dataclass
class Memory:
    """Guest-physical memory with nothing but the region."""

    content: bytearray

    def read(self, start: int, size: int) -> bytes:
        if start < START or start + size > START + SIZE:
            raise UserError("not RAM")
        return bytes(self.content[start - START : start - START + size])


@dataclass
class Shared:
    """The memory of a machine whose kernel 2 has joined, and its netbox."""

    record: Any
    memory: Any
    written: WrittenRegion
    entry: Any
    box: Any


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    written = WrittenRegion()
    layout, header = written.layout, written.header
    header.peer_offset, header.peer_stride = 0x100000, 4096
    base = layout.ffi.cast("char *", header)
    entry = layout.ffi.cast("struct popcorn_peer *", base + header.peer_offset + _ID * header.peer_stride)
    entry.netbox = START + 0x180000
    box = layout.ffi.cast("struct popcorn_netbox *", base + 0x180000)
    box.magic, box.owner, box.open = layout.constants["POPCORN_NETBOX_MAGIC"], _ID, 1
    (tmp_path / "popcorn.h").write_text(contract_header())
    record = SimpleNamespace(header=str(tmp_path / "popcorn.h"), region_start=START, region_size=SIZE)
    return Shared(record, Memory(written.memory), written, entry, box)


def test_an_entry_is_found_by_the_headers_words(shared: Shared) -> None:
    peer = peer_of(shared.record, shared.memory, _ID)
    assert (peer.start, peer.netbox) == (START + 0x100000 + _ID * 4096, START + 0x180000)


def test_a_kernel_says_that_its_network_is_down(shared: Shared) -> None:
    assert not says_network_is_down(shared.record, shared.memory, _ID)
    shared.box.open = 0
    assert says_network_is_down(shared.record, shared.memory, _ID)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda shared: setattr(shared.entry, "netbox", 0),
        lambda shared: setattr(shared.entry, "netbox", 1 << 63),
        lambda shared: setattr(shared.box, "magic", 0),
        lambda shared: setattr(shared.box, "owner", 3),
        lambda shared: setattr(shared.written.header, "peer_offset", (1 << 64) - 1),
        lambda shared: setattr(shared.record, "region_size", 0),
    ],
    ids=["not joined", "wild address", "no netbox there", "another's", "wild header", "no region"],
)
def test_nothing_is_said_where_nonsense_stands(shared: Shared, spoil: Callable[[Shared], None]) -> None:
    shared.box.open = 0
    spoil(shared)
    assert not says_network_is_down(shared.record, shared.memory, _ID)
