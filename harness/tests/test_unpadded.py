# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from popcorn.build.unpadded import LONG_PADDING, MAX_SEGMENTS, PAGE, write_unpadded
from popcorn.errors import HostError

TEXT, DATA = 0xFFFFFFFF81000000, 0xFFFFFFFF81A00000
PHYSICAL = 0xFFFFFFFF80000000
WRITE, ALLOC, EXECUTE = 1, 2, 4
PROGBITS, NOBITS = 1, 8

Section = tuple[int, bytes | int, int]
"""Address; content, or how many bytes of zeros without content; flags."""


def vmlinux(path: Path, segments: list[list[Section]], *, sections: bool = True) -> Path:
    """An image as the linker makes it: each segment holds its sections and what is between them."""
    bodies, loads, table = b"", [], [struct.pack("<IIQQQQIIQQ", *[0] * 10)]
    first = 64 + 56 * len(segments)
    for parts in segments:
        start = parts[0][0]
        data, size = b"", 0
        for address, content, flags in parts:
            length = content if isinstance(content, int) else len(content)
            kind = NOBITS if isinstance(content, int) else PROGBITS
            table.append(struct.pack("<IIQQQQIIQQ", 0, kind, flags, address, 0, length, 0, 0, 1, 0))
            if not isinstance(content, int):
                data = data.ljust(address - start, b"\0") + content
            size = address - start + length
        loads.append(
            struct.pack("<IIQQQQQQ", 1, 7, first + len(bodies), start, start - PHYSICAL, len(data), size, 1 << 21)
        )
        bodies += data
    count = len(table) if sections else 0
    at = first + len(bodies) if sections else 0
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, TEXT - PHYSICAL, 64, at, 0, 64, 56, len(loads), 64, count, 0
    )
    path.write_bytes(head + b"".join(loads) + bodies + (b"".join(table) if sections else b""))
    return path


def loaded(path: Path) -> dict[int, bytes]:
    """What an image puts where, by physical address."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        assert elf["e_entry"] == TEXT - PHYSICAL
        return {one["p_paddr"]: one.data().ljust(one["p_memsz"], b"\0") for one in elf.iter_segments()}


def unpadded(path: Path) -> dict[int, bytes]:
    write_unpadded(path, path.with_suffix(".out"))
    return loaded(path.with_suffix(".out"))


def test_int3_between_functions_is_not_loaded_and_all_code_keeps_its_address(tmp_path: Path) -> None:
    begin, entry = b"\x90" * (3 * PAGE + 5), b"\x91" * 100
    text = begin.ljust(1 << 20, b"\xcc") + entry.ljust(1 << 20, b"\xcc")
    found = unpadded(vmlinux(tmp_path / "vmlinux", [[(TEXT, text, ALLOC | EXECUTE)]]))
    assert found == {
        TEXT - PHYSICAL: begin.ljust(4 * PAGE, b"\xcc"),
        TEXT - PHYSICAL + (1 << 20): entry.ljust(PAGE, b"\xcc"),
    }


def test_the_hole_before_the_read_only_data_is_not_loaded(tmp_path: Path) -> None:
    rodata = TEXT + (2 << 20)
    parts = [(TEXT, b"\x90" * PAGE, ALLOC | EXECUTE), (rodata, b"r" * 5000, ALLOC)]
    assert unpadded(vmlinux(tmp_path / "vmlinux", [parts])) == {
        TEXT - PHYSICAL: b"\x90" * PAGE,
        rodata - PHYSICAL: b"r" * 5000,
    }


def test_data_is_loaded_whatever_it_looks_like(tmp_path: Path) -> None:
    data = b"\0" * (1 << 20) + b"\xcc" * (1 << 20) + b"d"
    code = [(TEXT, b"\x90", ALLOC | EXECUTE)]
    found = unpadded(vmlinux(tmp_path / "vmlinux", [code, [(DATA, data, ALLOC | WRITE)]]))
    assert found[DATA - PHYSICAL] == data


def test_memory_behind_the_data_stays_zero_memory(tmp_path: Path) -> None:
    parts: list[Section] = [(DATA, b"d" * 100, ALLOC | WRITE), (DATA + PAGE, 1 << 20, ALLOC | WRITE)]
    path = vmlinux(tmp_path / "vmlinux", [[(TEXT, b"\x90", ALLOC | EXECUTE)], parts])
    assert unpadded(path) == loaded(path)


def test_short_padding_is_not_worth_a_segment(tmp_path: Path) -> None:
    parts: list[Section] = [(TEXT, b"\x90" * 10, ALLOC | EXECUTE), (TEXT + LONG_PADDING, b"r" * 10, ALLOC)]
    path = vmlinux(tmp_path / "vmlinux", [parts])
    assert unpadded(path) == loaded(path)


def test_sections_that_are_not_in_memory_do_not_count(tmp_path: Path) -> None:
    parts: list[Section] = [(TEXT, b"\x90" * 10, ALLOC | EXECUTE), (TEXT + (2 << 20), b"r", ALLOC)]
    path = vmlinux(tmp_path / "vmlinux", [[*parts[:1], (TEXT + (1 << 20), b"symbols", 0), *parts[1:]]])
    assert set(unpadded(path)) == {TEXT - PHYSICAL, TEXT - PHYSICAL + (2 << 20)}


def test_an_image_that_tells_nothing_of_its_padding_is_refused(tmp_path: Path) -> None:
    path = vmlinux(tmp_path / "vmlinux", [[(TEXT, b"\x90", ALLOC | EXECUTE)]], sections=False)
    with pytest.raises(HostError, match="no section headers"):
        unpadded(path)


def test_more_segments_than_kexec_takes_are_refused(tmp_path: Path) -> None:
    parts: list[Section] = [(TEXT + number * (1 << 20), b"x", ALLOC) for number in range(MAX_SEGMENTS + 1)]
    with pytest.raises(HostError, match=f"{MAX_SEGMENTS + 1} segments; at most {MAX_SEGMENTS}"):
        unpadded(vmlinux(tmp_path / "vmlinux", [parts]))
