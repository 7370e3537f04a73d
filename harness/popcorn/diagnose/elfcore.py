# SPDX-License-Identifier: Apache-2.0
"""An ELF core of one kernel, as kdump's are, for drgn and crash. What the kernel never touched stays a hole."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.diagnose.layout import KernelLayout, Symbols

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_ET_CORE, _EM_X86_64, _PT_LOAD, _PT_NOTE = 4, 62, 1, 4
_NT_PRSTATUS = 1
_PAGE_BYTES = 4096
# struct elf_prstatus of x86-64: what precedes the registers, and these in its order.
_PRSTATUS_HEAD_BYTES, _PRSTATUS_TAIL_BYTES = 112, 8
_PRSTATUS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "rfl", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)

Copy = Callable[[int, int, int, int], None]
"""Writes what the host holds of a physical range: start, size, a file and where in it."""


@dataclass(frozen=True)
class Segment:
    """A piece of memory in the file."""

    virtual: int
    physical: int
    size: int
    offset: int


def vmcoreinfo(release: str, layout: KernelLayout, symbols: Symbols) -> str:
    """What a kernel with CRASH_DUMP says of itself in a note, which ours have not.

    Documentation/admin-guide/kdump/vmcoreinfo.rst.
    """
    tables_name, tables = symbols.first_of("init_top_pgt", "init_level4_pgt")
    lines = [f"OSRELEASE={release}"]
    lines += [f"PAGESIZE={_PAGE_BYTES}", f"SYMBOL(swapper_pg_dir)={tables:x}", f"SYMBOL({tables_name})={tables:x}"]
    lines += [
        f"SYMBOL({name})={symbols[name]:x}"
        for name in ("init_uts_ns", "_stext", "mem_section", "init_task", "linux_banner")
        if name in symbols
    ]
    lines += [
        "KERNELOFFSET=0",
        f"NUMBER(phys_base)={layout.phys_base}",
        "NUMBER(pgtable_l5_enabled)=0",
        f"NUMBER(KERNEL_IMAGE_SIZE)={1 << 29}",
    ]
    return "".join(line + "\n" for line in lines)


def note(name: str, kind: int, content: bytes) -> bytes:
    """One ELF note."""
    named = name.encode() + b"\0"
    return struct.pack("<III", len(named), len(content), kind) + _padded(named) + _padded(content)


def prstatus(registers: Mapping[str, int], pid: int) -> bytes:
    """The state of a CPU as a note of a core holds it."""
    head = bytearray(_PRSTATUS_HEAD_BYTES)
    struct.pack_into("<I", head, 32, pid)
    words = [registers.get(name, 0) & (1 << 64) - 1 for name in _PRSTATUS]
    return bytes(head) + struct.pack(f"<{len(words)}Q", *words) + bytes(_PRSTATUS_TAIL_BYTES)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def segments(layout: KernelLayout, windows: Iterable[tuple[int, int]], first_offset: int) -> list[Segment]:
    """The image at its own address, in the file where its physical memory is; and what the kernel owns.

    Raises:
        ValueError: the image lies in none of the windows.
    """
    found = []
    offset = first_offset
    for start, size in windows:
        found.append(Segment(layout.direct_map + start, start, size, offset))
        offset += size
    physical = layout.image_physical
    holder = next((one for one in found if one.physical <= physical < one.physical + one.size), None)
    if holder is None:
        raise ValueError(f"the image at {physical:#x} lies in no window")
    size = min(layout.image_bytes, holder.physical + holder.size - physical)
    image = Segment(layout.image_start, physical, size, holder.offset + physical - holder.physical)
    return [image, *found]


def write_core(
    path: Path,
    layout: KernelLayout,
    windows: Sequence[tuple[int, int]],
    notes: bytes,
    copy: Copy,
) -> None:
    """Write a core, for this user's eyes only.

    Args:
        windows: physical start and size of what the core shall hold; the image must be in one.
        notes: as `note` makes them.
    """
    headers = _EHDR.size + _PHDR.size * (len(windows) + 2)
    data_at = -(-(headers + len(notes)) // _PAGE_BYTES) * _PAGE_BYTES
    placed = segments(layout, windows, data_at)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        # In a folder that others write to, what is there already may be theirs.
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, data_at + sum(size for _, size in windows))
            os.pwrite(fd, _header(placed, headers, len(notes)) + notes, 0)
            for segment in placed[1:]:
                copy(segment.physical, segment.size, fd, segment.offset)
        finally:
            os.close(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _header(placed: Sequence[Segment], notes_at: int, notes_bytes: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(placed) + 1
    ehdr = _EHDR.pack(ident, _ET_CORE, _EM_X86_64, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, count, 0, 0, 0)
    phdrs = [_PHDR.pack(_PT_NOTE, 0, notes_at, 0, 0, notes_bytes, notes_bytes, 4)]
    phdrs += [
        _PHDR.pack(_PT_LOAD, 7, one.offset, one.virtual, one.physical, one.size, one.size, _PAGE_BYTES)
        for one in placed
    ]
    return ehdr + b"".join(phdrs)
