# SPDX-License-Identifier: Apache-2.0
"""Where a kernel lies in guest-physical memory, found without its help.

A kernel is linked at one virtual address and loaded at any physical one; it notes the difference in its variable
``phys_base``. An image is where that variable, read at the place that follows from the guess, agrees with the guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.errors import GuestError, HostError, UserError

PAGE_BYTES = 4096
# Documentation/arch/x86/x86_64/mm.rst, and that of 3.2, where the direct mapping began 8 TiB earlier.
START_KERNEL_MAP = 0xFFFFFFFF80000000
_DIRECT_MAPS = (0xFFFF888000000000, 0xFFFF880000000000)
_IMAGE_ALIGN = 2 << 20
_PRESENT, _LARGE, _ADDRESS = 1, 1 << 7, 0x000FFFFFFFFFF000
_BANNER_BYTES = 64

Read = Callable[[int, int], bytes]
"""Reads guest-physical memory: address and bytes. Raises UserError where there is none."""


class Symbols:
    """Addresses by name, from a System.map; of several of one name, the first."""

    def __init__(self, system_map: Path) -> None:
        """Raises HostError when the file cannot be read."""
        self._path = system_map
        self._at: dict[str, int] = {}
        try:
            text = system_map.read_text()
        except OSError as error:
            raise HostError(f"cannot read the symbols of the kernel, {system_map}: {error.strerror}") from error
        for address, name in re.findall(r"^([0-9a-f]+) \w (\S+)$", text, re.MULTILINE):
            self._at.setdefault(name, int(address, 16))

    def __getitem__(self, name: str) -> int:
        if name not in self._at:
            raise HostError(f"{self._path} has no symbol {name}")
        return self._at[name]

    def first_of(self, *names: str) -> tuple[str, int]:
        """The first of some names that is there: kernels call one thing differently."""
        for name in names:
            if name in self._at:
                return name, self._at[name]
        raise HostError(f"{self._path} has none of the symbols {', '.join(names)}")

    def __contains__(self, name: str) -> bool:
        return name in self._at


@dataclass(frozen=True)
class KernelLayout:
    """Where a kernel is. Addresses in bytes."""

    phys_base: int
    """What is added to an address of the image, counted from START_KERNEL_MAP, to get the physical one."""
    image_start: int
    """Virtual."""
    image_bytes: int
    direct_map: int
    """Virtual address at which physical memory is mapped one to one."""

    @property
    def image_physical(self) -> int:
        return self.image_start - START_KERNEL_MAP + self.phys_base


def find_layout(read: Read, windows: Iterable[tuple[int, int]], symbols: Symbols, banner: bytes) -> KernelLayout:
    """Find a kernel in the memory that it owns.

    Args:
        windows: start and size of each piece of that, physical.
        banner: how its ``linux_banner`` begins.

    Raises:
        GuestError: it is not there: never loaded, overwritten, or not this build.
    """
    start, end = symbols["_text"], symbols["_end"]
    tables = symbols.first_of("init_top_pgt", "init_level4_pgt")[1]
    for physical in _places(windows, end - start):
        phys_base = physical - (start - START_KERNEL_MAP)
        if _u64(read, symbols["phys_base"] - START_KERNEL_MAP + phys_base) != phys_base:
            continue
        if read(symbols["linux_banner"] - START_KERNEL_MAP + phys_base, len(banner)) != banner:
            continue
        direct_map = _direct_map(read, tables - START_KERNEL_MAP + phys_base, physical)
        if direct_map is not None:
            return KernelLayout(phys_base, start, end - start, direct_map)
    raise GuestError(
        "this kernel is not in the memory that it owns: it was not started, it overwrote itself, or runs another image",
        hint="`popcorn ps` tells how it is",
    )


def _places(windows: Iterable[tuple[int, int]], image_bytes: int) -> Iterable[int]:
    for start, size in windows:
        first = -(-start // _IMAGE_ALIGN) * _IMAGE_ALIGN
        yield from range(first, start + size - image_bytes + 1, _IMAGE_ALIGN)


def _direct_map(read: Read, tables: int, physical: int) -> int | None:
    for base in _DIRECT_MAPS:
        if translate(read, tables, base + physical) == physical:
            return base
    return None


def translate(read: Read, tables: int, address: int) -> int | None:
    """The physical address that four levels of page tables give a virtual one; None if it is not mapped."""
    for shift in (39, 30, 21, 12):
        try:
            entry = _u64(read, tables + (address >> shift & 511) * 8)
        except UserError:
            return None
        if not entry & _PRESENT:
            return None
        tables = entry & _ADDRESS
        if shift == 12 or (shift in (30, 21) and entry & _LARGE):
            mask = (1 << shift) - 1
            return (tables & ~mask) | (address & mask)
    return None


def _u64(read: Read, address: int) -> int:
    return int.from_bytes(read(address, 8), "little")


def banner_of(vmlinux: Path, symbols: Symbols) -> bytes:
    """How ``linux_banner`` begins in an image.

    Raises:
        HostError: the image does not hold it.
    """
    from elftools.elf.elffile import ELFFile

    address = symbols["linux_banner"]
    with vmlinux.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            begin = int(segment["p_vaddr"])
            if begin <= address < begin + int(segment["p_filesz"]):
                file.seek(int(segment["p_offset"]) + address - begin)
                return file.read(_BANNER_BYTES)
    raise HostError(f"{vmlinux} holds no linux_banner at {address:#x}")


def windows_of(memory: Sequence[tuple[int, int]], *, primary: bool) -> list[tuple[int, int]]:
    """What a kernel owns, in pieces; the primary has the lowest MiB besides, which plans do not count."""
    low = [(0, 1 << 20)] if primary and all(start for start, _ in memory) else []
    return low + sorted(memory)
