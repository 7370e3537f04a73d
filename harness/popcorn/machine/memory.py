# SPDX-License-Identifier: Apache-2.0
"""The memory of a machine, held by the host beside QEMU.

Each NUMA node is one sparse memfd, which QEMU maps as the node's RAM. The supervisor
keeps the descriptors, so that guest-physical memory can be read from outside while
the guest runs, and after QEMU has died.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.errors import HostError, UserError

_FOUR_GIB = 1 << 32
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class NodeMemory:
    """RAM of one NUMA node: a memfd and its size in bytes."""

    fd: int
    size: int


@dataclass(frozen=True)
class Extent:
    """A piece of guest-physical memory inside one node's file."""

    node: int
    offset: int
    size: int


def create_node_memory(node: int, size: int) -> NodeMemory:
    """A new sparse memfd, which can neither grow nor shrink.

    Raises:
        HostError: the kernel refused.
    """
    try:
        fd = os.memfd_create(f"popcorn-node{node}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError as error:
        raise HostError(
            f"cannot make {size >> 20} MiB of memory for node {node} of the machine: {error.strerror}",
            hint="limits of files hold for it as well (`ulimit -f`, `ulimit -n`); else the host has too little memory",
        ) from error
    return NodeMemory(fd, size)


class GuestMemory:
    """Guest-physical memory of a machine whose nodes follow each other, read-only."""

    def __init__(self, nodes: Sequence[NodeMemory], hole_start: int) -> None:
        """
        Args:
            hole_start: where the PCI hole begins; RAM that would reach it goes on at 4 GiB.
        """
        self.nodes = tuple(nodes)
        self.total = sum(node.size for node in nodes)
        self.below_4g = min(self.total, hole_start)

    def close(self) -> None:
        """Close the descriptors of the nodes."""
        for node in self.nodes:
            os.close(node.fd)
        self.nodes = ()

    def extents(self, start: int, size: int) -> list[Extent]:
        """Where a guest-physical range lies.

        Raises:
            UserError: part of the range is not RAM of the machine.
        """
        end = start + size
        in_low = start >= 0 and end <= self.below_4g
        in_high = start >= _FOUR_GIB and end - _FOUR_GIB + self.below_4g <= self.total
        if size <= 0 or not (in_low or in_high):
            raise UserError(f"{size:#x} bytes at {start:#x} are not RAM of this machine")
        position = start if in_low else start - _FOUR_GIB + self.below_4g
        found = []
        base = 0
        for number, node in enumerate(self.nodes):
            inside = min(position + size, base + node.size) - max(position, base)
            if inside > 0:
                found.append(Extent(number, max(position, base) - base, inside))
            base += node.size
        return found

    def map(self, start: int, size: int) -> mmap.mmap:
        """A read-only mapping of a range that lies on one node.

        Raises:
            UserError: it is not RAM, or crosses nodes.
            HostError: the host refused.
        """
        extents = self.extents(start, size)
        if len(extents) != 1:
            raise UserError(
                f"{size:#x} bytes at {start:#x} lie on {len(extents)} nodes; only one can be mapped at once"
            )
        extent = extents[0]
        try:
            return mmap.mmap(
                self.nodes[extent.node].fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=extent.offset
            )
        except OSError as error:
            raise HostError(f"cannot map {size:#x} bytes of guest memory at {start:#x}: {error.strerror}") from error

    def read(self, start: int, size: int) -> bytes:
        """A copy of some guest-physical memory; errors as for `extents`."""
        return b"".join(os.pread(self.nodes[e.node].fd, e.size, e.offset) for e in self.extents(start, size))

    def data_extents(self, start: int, size: int) -> list[Extent]:
        """The parts of a range that the host has given pages to; errors as for `extents`."""
        return [
            Extent(extent.node, begin, stop - begin)
            for extent in self.extents(start, size)
            for begin, stop in _data_ranges(self.nodes[extent.node].fd, extent.offset, extent.offset + extent.size)
        ]

    def copy_used(self, start: int, size: int, out: int, offset: int) -> None:
        """Write the parts of a range that the host has given pages to into a file, where each belongs.

        What the guest never touched stays a hole. Errors as for `extents`, and OSError for the file.

        Args:
            out: descriptor of the file.
            offset: where in it the range begins.
        """
        for extent in self.extents(start, size):
            fd = self.nodes[extent.node].fd
            for begin, stop in _data_ranges(fd, extent.offset, extent.offset + extent.size):
                for at in range(begin, stop, _COPY_BYTES):
                    piece = os.pread(fd, min(_COPY_BYTES, stop - at), at)
                    write_all(out, piece, offset + at - extent.offset)
            offset += extent.size

    def resident_bytes(self, start: int, size: int) -> int:
        """How much of a range the host has given pages to; errors as for `extents`."""
        return sum(extent.size for extent in self.data_extents(start, size))


def open_node_files(paths: Sequence[Path], hole_start: int) -> GuestMemory:
    """The memory of a machine that was saved in files, one a node.

    Raises:
        HostError: one cannot be opened.
    """
    nodes: list[NodeMemory] = []
    try:
        for path in paths:
            nodes.append(NodeMemory(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path.stat().st_size))
    except OSError as error:
        GuestMemory(nodes, hole_start).close()
        raise HostError(f"cannot open the saved memory: {error}") from error
    return GuestMemory(nodes, hole_start)


def write_all(out: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it into a file, from an offset on."""
    while data:
        written = os.pwrite(out, data, offset)
        data, offset = data[written:], offset + written


def _data_ranges(fd: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        try:
            begin = os.lseek(fd, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if begin >= end:
            return
        stop = min(os.lseek(fd, begin, os.SEEK_HOLE), end)
        yield begin, stop
        begin = stop
