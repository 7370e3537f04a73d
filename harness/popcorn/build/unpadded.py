# SPDX-License-Identifier: Apache-2.0
"""A kernel's ELF image without what the linker puts between its parts.

The linker script of x86-64 begins the entry code, the read-only data and the data at multiples of 2 MiB, so that
large pages can map them. What lies between is filled with int3 or zeros, nothing executes or reads it, and it may be
as large as the code. A loader that copies it makes the host give memory to it, once for each kernel. So segments are
split where padding is long: all addresses stay what they were, and the gaps are not loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from popcorn.errors import HostError
from popcorn.files import write_atomic

PAGE = 4096
LONG_PADDING = 16 * PAGE
"""Shorter padding is not worth a segment."""
MAX_SEGMENTS = 12
"""So many kexec-popcorn takes."""

_INT3 = b"\xcc" * PAGE
_ALLOC, _EXECUTABLE = 0x2, 0x4
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_EXEC, _X86_64, _LOAD = 2, 62, 1
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class Piece:
    """What is loaded to one place; what of the size lies beyond the data is zero."""

    flags: int
    vaddr: int
    paddr: int
    data: bytes
    size: int


def write_unpadded(vmlinux: Path, target: Path) -> None:
    """Write an image that puts at the same addresses what a vmlinux does, but for its padding.

    The result has LOAD segments only, neither sections nor notes.

    Raises:
        HostError: the vmlinux has no section headers, or too many gaps.
    """
    with vmlinux.open("rb") as stream:
        elf = ELFFile(stream)
        sections = [one for one in elf.iter_sections() if one["sh_flags"] & _ALLOC and one["sh_size"]]
        if not sections:
            raise HostError(f"{vmlinux} has no section headers: they tell what of it is padding")
        pieces = [piece for one in elf.iter_segments() if one["p_type"] == "PT_LOAD" for piece in _split(one, sections)]
        entry = int(elf.header["e_entry"])
    if len(pieces) > MAX_SEGMENTS:
        raise HostError(f"{vmlinux} without its padding has {len(pieces)} segments; at most {MAX_SEGMENTS} load")
    write_atomic(target, _image(entry, pieces), 0o755)


def without_gaps(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (begin, end), widened to whole pages and joined unless long padding lies between them."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted((begin // PAGE * PAGE, -(-end // PAGE) * PAGE) for begin, end in ranges):
        if joined and begin - joined[-1][1] < LONG_PADDING:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def code(data: bytes) -> Iterator[tuple[int, int]]:
    """The pages of executable bytes that are not int3 throughout."""
    for begin in range(0, len(data), PAGE):
        page = data[begin : begin + PAGE]
        if page != _INT3[: len(page)]:
            yield begin, begin + len(page)


def _split(segment: Any, sections: Iterable[Any]) -> Iterator[Piece]:
    vaddr, size, data = int(segment["p_vaddr"]), int(segment["p_memsz"]), segment.data()
    used: list[tuple[int, int]] = []
    for section in sections:
        begin = int(section["sh_addr"]) - vaddr
        end = begin + int(section["sh_size"])
        if begin < 0 or end > size:
            continue
        if section["sh_flags"] & _EXECUTABLE:
            used += [(begin + start, begin + stop) for start, stop in code(data[begin:end])]
        else:
            used.append((begin, end))
    for begin, end in without_gaps(used):
        stop = min(end, size)
        yield Piece(
            int(segment["p_flags"]), vaddr + begin, int(segment["p_paddr"]) + begin, data[begin:stop], stop - begin
        )


def _image(entry: int, pieces: Sequence[Piece]) -> bytes:
    table_end = _ELF_HEADER.size + len(pieces) * _PROGRAM_HEADER.size
    header = _ELF_HEADER.pack(
        _IDENT, _EXEC, _X86_64, 1, entry, _ELF_HEADER.size, 0, 0,
        _ELF_HEADER.size, _PROGRAM_HEADER.size, len(pieces), 0, 0, 0,
    )  # fmt: skip
    table = b""
    body = b"".ljust(-table_end % PAGE, b"\0")
    for piece in pieces:
        table += _PROGRAM_HEADER.pack(
            _LOAD, piece.flags, table_end + len(body), piece.vaddr, piece.paddr, len(piece.data), piece.size, PAGE
        )
        body += piece.data.ljust(-(-len(piece.data) // PAGE) * PAGE, b"\0")
    return header + table + body
