# SPDX-License-Identifier: Apache-2.0
"""Whether files are what they are taken for, before anything is started with them."""

from __future__ import annotations

import struct
from pathlib import Path

from popcorn.errors import UserError

_ELF_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_ELFCLASS64, _ELFDATA2LSB = 2, 1
_EM_X86_64 = 62
_MACHINES = {3: "i386", 40: "Arm", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
_PT_LOAD = 1
# Documentation/arch/x86/boot.rst
_BOOT_MAGIC_AT = 0x202
_BOOT_MAGIC = b"HdrS"
_CPIO_MAGIC = b"070701"
_HINT = "give the vmlinux of a kernel with Popcorn, built for x86-64"


def check_vmlinux(path: Path) -> None:
    """
    Raises:
        UserError: this is no whole ELF image of an x86-64 kernel.
    """
    head = _head(path, 4096, "vmlinux")
    if not head.startswith(b"\x7fELF") or len(head) < _ELF_HEADER.size:
        raise UserError(f"{path} is no ELF file; the secondaries need an uncompressed vmlinux", hint=_HINT)
    _, kind, order, _, _, machine, _, _, table, _, _, _, entry_bytes, nr_entries, *_ = _ELF_HEADER.unpack_from(head)
    if (kind, order, machine) != (_ELFCLASS64, _ELFDATA2LSB, _EM_X86_64):
        bits = "64-bit" if kind == _ELFCLASS64 else "32-bit"
        name = _MACHINES.get(machine, f"machine {machine}")
        raise UserError(
            f"{path} is for the wrong architecture: expected 64-bit x86-64, found {bits} {name}", hint=_HINT
        )
    end = 0
    for index in range(nr_entries):
        at = table + index * entry_bytes
        if entry_bytes < _PROGRAM_HEADER.size or at + _PROGRAM_HEADER.size > len(head):
            raise UserError(f"{path} is damaged: its program headers lie outside the file's head", hint=_HINT)
        segment, _, offset, _, _, file_bytes, _, _ = _PROGRAM_HEADER.unpack_from(head, at)
        if segment == _PT_LOAD:
            end = max(end, offset + file_bytes)
    size = path.stat().st_size
    if end == 0 or end > size:
        raise UserError(f"{path} is truncated: expected {end} bytes of segments, found {size} bytes in all", hint=_HINT)


def check_bzimage(path: Path) -> None:
    """
    Raises:
        UserError: this is no bzImage.
    """
    head = _head(path, 4096, "kernel")
    if head[_BOOT_MAGIC_AT : _BOOT_MAGIC_AT + 4] != _BOOT_MAGIC:
        raise UserError(f"{path} is no Linux bzImage: expected {_BOOT_MAGIC!r} at {_BOOT_MAGIC_AT:#x}")


def check_initrd(path: Path) -> None:
    """
    Raises:
        UserError: this is no uncompressed cpio archive.
    """
    head = _head(path, len(_CPIO_MAGIC), "initrd")
    if head != _CPIO_MAGIC:
        raise UserError(
            f"{path} is no cpio archive in the newc format: expected {_CPIO_MAGIC!r} at its beginning, found {head!r}",
            hint="kernels unpack uncompressed archives fastest; make one with `cpio -o -H newc`",
        )


def _head(path: Path, nr_bytes: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(nr_bytes)
    except OSError as error:
        raise UserError(
            f"cannot read the {what} {path}: {error.strerror}",
            hint="check the path, or leave the option out: Popcorn makes what is missing",
        ) from error
