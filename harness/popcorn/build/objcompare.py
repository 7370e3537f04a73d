# SPDX-License-Identifier: Apache-2.0
"""Whether two object files are the same code and data.

Compared, section by section: name, type, flags, alignment, size and bytes of every section that ends up in memory,
and its relocations. A relocation against a local symbol is compared by the section and offset it points to, one
against a global or undefined symbol by its name. Not compared: symbol and string tables, debug information,
comments. So names of local symbols (in which the kernel hides line numbers) may differ, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from popcorn.process import run

_ALLOC = 0x2


@dataclass(frozen=True)
class Compared:
    """The objects of two builds, counted and told."""

    identical: int
    """Byte for byte."""
    but_for_names: int
    """The same in the sense of this module."""
    differing: list[str]


def compare_builds(one: Path, other: Path) -> Compared:
    """Compare all objects and the linker script of two object directories of the kernel."""
    mine, theirs = _object_files(one), _object_files(other)
    differing = [f"{name}: only in one build" for name in sorted(mine.keys() ^ theirs.keys())]
    identical = but_for_names = 0
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name].read_bytes() == theirs[name].read_bytes():
            identical += 1
        elif difference := first_difference(mine[name], theirs[name]):
            differing.append(f"{name}: {difference}")
        else:
            but_for_names += 1
    script = "arch/x86/kernel/vmlinux.lds"
    if _linker_script(one / script) != _linker_script(other / script):
        differing.append(f"{script}: other lines")
    return Compared(identical, but_for_names, differing)


def first_difference(one: Path, other: Path) -> str | None:
    """What distinguishes two object files, or None when they are the same in the sense above."""
    if one.read_bytes() == other.read_bytes():
        return None
    with one.open("rb") as left, other.open("rb") as right:
        return _compared(_sections(ELFFile(left)), _sections(ELFFile(right)))


def _compared(left: list[tuple[str, Any]], right: list[tuple[str, Any]]) -> str | None:
    names, others = [name for name, _ in left], [name for name, _ in right]
    if names != others:
        gone = [name for name in names if name not in others]
        new = [name for name in others if name not in names]
        return f"sections differ (gone: {', '.join(gone) or 'none'}; new: {', '.join(new) or 'none'})"
    for (name, mine), (_, theirs) in zip(left, right, strict=True):
        for what, value in mine.items():
            if value != theirs[what]:
                return f"{what} of section {name} differ"
    return None


def _sections(elf: Any) -> list[tuple[str, dict[str, Any]]]:
    sections = list(elf.iter_sections())
    found: list[tuple[str, dict[str, Any]]] = []
    for index, section in enumerate(sections):
        if not section["sh_flags"] & _ALLOC or isinstance(section, RelocationSection):
            continue
        facts: dict[str, Any] = {
            "attributes": (section["sh_type"], section["sh_flags"], section["sh_addralign"], section["sh_entsize"]),
            "sizes": section["sh_size"],
            "bytes": b"" if section["sh_type"] == "SHT_NOBITS" else section.data(),
            "relocations": [],
        }
        for candidate in sections:
            if isinstance(candidate, RelocationSection) and candidate["sh_info"] == index:
                facts["relocations"] = _relocations(candidate, sections)
        found.append((section.name, facts))
    return found


def _relocations(table: Any, sections: list[Any]) -> list[tuple[Any, ...]]:
    symbols = sections[table["sh_link"]]
    assert isinstance(symbols, SymbolTableSection)
    found = []
    for relocation in table.iter_relocations():
        symbol = symbols.get_symbol(relocation["r_info_sym"])
        addend = relocation["r_addend"] if relocation.is_RELA() else 0
        index = symbol["st_shndx"]
        if symbol["st_info"]["bind"] == "STB_LOCAL" and isinstance(index, int):
            target = (sections[index].name, symbol["st_value"] + addend)
        else:
            target = (symbol.name, addend)
        found.append((relocation["r_offset"], relocation["r_info_type"], *target))
    return found


def _object_files(objects: Path) -> dict[str, Path]:
    # What lies in the directory may be of an earlier configuration; the archives name what was linked.
    names: list[str] = []
    if (objects / "vmlinux.a").is_file():
        for archive in ("vmlinux.a", "lib/lib.a", "arch/x86/lib/lib.a"):
            names += run(["ar", "t", archive], cwd=objects).stdout.split()
    else:
        names = _linked(objects, "vmlinux")
    return {name: objects / name for name in names}


def _linked(objects: Path, target: str) -> list[str]:
    """What an older kernel linked to a file, by way of its built-in.o and lib.a; make keeps the commands."""
    path = objects / target
    command = path.with_name(f".{path.name}.cmd").read_text().splitlines()[0].partition(":=")[2]
    names: list[str] = []
    for word in command.split():
        name = word.removesuffix(";")
        if name == target or not name.endswith((".o", ".a")) or Path(name).name.startswith(".tmp_"):
            continue
        names += _linked(objects, name) if Path(name).name in ("built-in.o", "lib.a") else [name]
    return names


def _linker_script(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
