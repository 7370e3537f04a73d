# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from popcorn.errors import UserError
from popcorn.machine.kernelfile import check_bzimage, check_initrd, check_vmlinux


def elf(path: Path, *, machine: int = 62, bits: int = 2, length: int = 8192) -> Path:
    header = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", bits, 1, 1, 2, machine, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 4096, 0, 0x1000000, 4096, 4096, 4096)
    path.write_bytes((header + segment).ljust(8192, b"\0")[:length])
    return path


def test_a_whole_vmlinux_is_taken(tmp_path: Path) -> None:
    check_vmlinux(elf(tmp_path / "vmlinux"))


def test_a_truncated_vmlinux_is_told_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="truncated: expected 8192 bytes of segments, found 5000"):
        check_vmlinux(elf(tmp_path / "vmlinux", length=5000))


def test_a_vmlinux_of_another_architecture_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected 64-bit x86-64, found 64-bit AArch64"):
        check_vmlinux(elf(tmp_path / "vmlinux", machine=183))
    with pytest.raises(UserError, match="found 32-bit i386"):
        check_vmlinux(elf(tmp_path / "vmlinux", machine=3, bits=1))


def test_a_vmlinux_that_is_no_elf_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"MZ" * 100)
    with pytest.raises(UserError, match="is no ELF file"):
        check_vmlinux(tmp_path / "vmlinux")
    with pytest.raises(UserError, match="cannot read the vmlinux"):
        check_vmlinux(tmp_path / "nowhere")


def test_program_headers_outside_the_file_are_told(tmp_path: Path) -> None:
    path = elf(tmp_path / "vmlinux", length=100)
    with pytest.raises(UserError, match="program headers lie outside"):
        check_vmlinux(path)


def test_other_files_are_not_taken_for_a_bzimage_or_an_initrd(tmp_path: Path) -> None:
    path = elf(tmp_path / "vmlinux")
    with pytest.raises(UserError, match="no Linux bzImage"):
        check_bzimage(path)
    with pytest.raises(UserError, match="no cpio archive"):
        check_initrd(path)
    with pytest.raises(UserError, match="cannot read the initrd"):
        check_initrd(tmp_path / "nowhere")
