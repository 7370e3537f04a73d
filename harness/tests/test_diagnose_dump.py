# SPDX-License-Identifier: Apache-2.0
"""Finding a kernel in memory, and the core that is made of it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from popcorn.diagnose.elfcore import note, prstatus, vmcoreinfo, write_core
from popcorn.diagnose.layout import START_KERNEL_MAP, KernelLayout, Symbols, find_layout, translate, windows_of
from popcorn.diagnose.registers import parse_registers
from popcorn.errors import GuestError, HostError, UserError
from popcorn.machine.memory import GuestMemory, create_node_memory

MIB = 1 << 20
BASE = 0x4600000
"""Where the kernel of these tests was loaded."""
TEXT = START_KERNEL_MAP + 0x1000000
BANNER = b"Linux version 6.12.0 (somebody@somewhere)"
MAP = f"""\
{TEXT:x} T _text
{TEXT:x} T _stext
{TEXT + 0x1000:x} D linux_banner
{TEXT + 0x2010:x} D phys_base
{TEXT + 0x3000:x} D init_top_pgt
{TEXT + 0x10000:x} B _end
"""


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    (tmp_path / "System.map").write_text(MAP)
    return Symbols(tmp_path / "System.map")


class Memory(GuestMemory):
    """Guest memory that a test writes to."""

    def __init__(self, size: int = 128 * MIB) -> None:
        super().__init__([create_node_memory(0, size)], size)

    def write(self, address: int, data: bytes) -> None:
        os.pwrite(self.nodes[0].fd, data, address)

    def entry(self, table: int, index: int, target: int, flags: int) -> None:
        """Write an entry of a page table."""
        self.write(table + index * 8, struct.pack("<Q", target | flags))

    def load(self, base: int, direct_map: int = 0xFFFF888000000000) -> None:
        """What a kernel that runs there leaves."""
        self.write(base + 0x1000, BANNER)
        self.write(base + 0x2010, struct.pack("<q", base - 0x1000000))
        top, middle = base + 0x3000, base + 0x4000
        self.entry(top, direct_map >> 39 & 511, middle, 0x63)
        # One page of 1 GiB.
        self.entry(middle, 0, 0, 0xE3)


def test_a_kernel_is_found_where_it_was_loaded(symbols: Symbols) -> None:
    memory = Memory()
    memory.load(BASE)
    layout = find_layout(memory.read, [(0x4000000, 32 * MIB)], symbols, BANNER)
    assert layout == KernelLayout(BASE - 0x1000000, TEXT, 0x10000, 0xFFFF888000000000)
    assert layout.image_physical == BASE


def test_the_direct_mapping_of_3_2_lies_elsewhere(symbols: Symbols) -> None:
    memory = Memory()
    memory.load(BASE, 0xFFFF880000000000)
    assert find_layout(memory.read, [(0x4000000, 32 * MIB)], symbols, BANNER).direct_map == 0xFFFF880000000000


def test_a_copy_that_never_ran_is_not_taken_for_the_kernel(symbols: Symbols) -> None:
    memory = Memory()
    memory.write(0x4200000 + 0x1000, BANNER)
    memory.load(BASE)
    assert find_layout(memory.read, [(0x4000000, 32 * MIB)], symbols, BANNER).image_physical == BASE


@pytest.mark.parametrize("banner", [BANNER, b"Linux version 3.2.0"])
def test_a_kernel_of_another_build_or_none_is_refused(symbols: Symbols, banner: bytes) -> None:
    memory = Memory()
    if banner != BANNER:
        memory.load(BASE)
    with pytest.raises(GuestError, match="not in the memory that it owns"):
        find_layout(memory.read, [(0x4000000, 32 * MIB)], symbols, banner)


def test_page_tables_are_followed_and_what_they_do_not_map_is_not_there() -> None:
    memory = Memory()
    memory.entry(0x1000, 1, 0x2000, 0x63)
    memory.entry(0x2000, 2, 0x3000, 0x63)
    memory.entry(0x3000, 3, 0x4000, 0x63)
    memory.entry(0x4000, 4, 0x5000, 0x63)
    # Tables beyond memory are a damaged kernel's.
    memory.entry(0x3000, 4, 0x7F0000000000, 0x63)
    at = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12
    assert translate(memory.read, 0x1000, at | 0x123) == 0x5123
    assert translate(memory.read, 0x1000, at + 0x1000) is None
    assert translate(memory.read, 0x1000, at + (1 << 21)) is None


def test_a_symbol_that_is_missing_is_named(symbols: Symbols) -> None:
    with pytest.raises(HostError, match="no symbol init_task"):
        symbols["init_task"]


def test_a_core_holds_the_image_at_its_own_address_and_what_the_kernel_owns(tmp_path: Path, symbols: Symbols) -> None:
    memory = Memory()
    memory.load(BASE)
    memory.write(0x5500000, b"owned")
    windows = [(0x4000000, 16 * MIB), (0x5400000, 4 * MIB)]
    layout = find_layout(memory.read, windows, symbols, BANNER)
    notes = note("CORE", 1, prstatus({"rip": 0x1234, "rsp": 0x5678}, 0))
    notes += note("VMCOREINFO", 0, vmcoreinfo("6.12.0", layout, symbols).encode())
    path = tmp_path / "core"
    write_core(path, layout, windows, notes, memory.copy_used)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size > 20 * MIB
    assert path.stat().st_blocks * 512 < 1 * MIB
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        header, image, *owned = list(elf.iter_segments())
        assert (image["p_vaddr"], image["p_paddr"], image["p_filesz"]) == (TEXT, BASE, 0x10000)
        assert image.data()[0x1000 : 0x1000 + len(BANNER)] == BANNER
        assert [(one["p_vaddr"], one["p_paddr"], one["p_filesz"]) for one in owned] == [
            (0xFFFF888000000000 + start, start, size) for start, size in windows
        ]
        assert owned[1].data()[0x100000:0x100005] == b"owned"
        status, info = header.iter_notes()
        assert status["n_type"] == "NT_PRSTATUS"
        assert info["n_name"] == "VMCOREINFO"
        file.seek(header["p_offset"])
        text = file.read(header["p_filesz"])
    assert f"NUMBER(phys_base)={BASE - 0x1000000}\n".encode() in text
    assert f"SYMBOL(swapper_pg_dir)={TEXT + 0x3000:x}\n".encode() in text
    # struct elf_prstatus: 112 bytes, then the registers; the instruction's address is the 17th, the stack's the 20th.
    words = struct.unpack_from("<27Q", text, 12 + len(b"CORE\0\0\0\0") + 112)
    assert (words[16], words[19]) == (0x1234, 0x5678)


def test_a_core_that_cannot_be_written_leaves_nothing(tmp_path: Path, symbols: Symbols) -> None:
    memory = Memory()
    memory.load(BASE)
    layout = find_layout(memory.read, [(0x4000000, 16 * MIB)], symbols, BANNER)
    with pytest.raises(UserError):
        write_core(tmp_path / "core", layout, [(0x4000000, 16 * MIB), (1 << 40, 4096)], b"", memory.copy_used)
    assert list(tmp_path.glob("*core*")) == []


def test_a_range_across_nodes_is_copied_to_where_it_belongs(tmp_path: Path) -> None:
    memory = GuestMemory([create_node_memory(0, 4 * MIB), create_node_memory(1, 4 * MIB)], 8 * MIB)
    os.pwrite(memory.nodes[0].fd, b"end", 4 * MIB - 3)
    os.pwrite(memory.nodes[1].fd, b"begin", 0)
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    memory.copy_used(2 * MIB, 4 * MIB, out, 100)
    assert os.pread(out, 8, 100 + 2 * MIB - 3) == b"endbegin"


def test_the_primary_owns_the_lowest_mebibyte_as_well() -> None:
    assert windows_of([(1 * MIB, 8 * MIB)], primary=True) == [(0, 1 * MIB), (1 * MIB, 8 * MIB)]
    assert windows_of([(64 * MIB, 8 * MIB)], primary=False) == [(64 * MIB, 8 * MIB)]


def test_registers_are_read_from_what_the_monitor_prints() -> None:
    text = """
CPU#0
RAX=0000000000000000 RBX=ffffffff81a09d00 RCX=0000000000000000 RDX=0000000000000001
RSI=0000000000000083 RDI=0000000000000000 RBP=0000000000000000 RSP=ffffffff81a03e90
R8 =0000000000000001 R9 =0000000000000000 R10=0000000000000000 R11=0000000000000000
RIP=ffffffff813fc953 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]
GS =0000 ffff88806d600000 00000000 00000000

CPU#1
RIP=0000000000401234 RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0
"""
    registers = parse_registers(text)
    assert registers[0]["rip"] == 0xFFFFFFFF813FC953
    assert registers[0]["r8"] == 1
    assert (registers[0]["cs"], registers[0]["gs_base"]) == (0x10, 0xFFFF88806D600000)
    assert registers[1]["rip"] == 0x401234
