# SPDX-License-Identifier: Apache-2.0
"""The twin of a kernel: the same code with debug information, built on demand and proven to be the same.

Kernels are built without: it takes more than twice the time and a hundred times the room. A twin that differs in a
symbol's place or in a byte of code or data would lie, and is refused.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from popcorn.build.apply import apply_series
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.base import Base
from popcorn.build.kbuild import Kbuild
from popcorn.build.kconfig import configure, fragments, requests_of
from popcorn.build.kernel import KERNEL_VARIABLE, build_kernel, kernel_inputs, local_version, named_kernel
from popcorn.build.series import Series, load_series
from popcorn.build.source import find_base
from popcorn.build.store import find, get_or_build
from popcorn.build.workspace import workspace
from popcorn.dirs import cache_dir
from popcorn.errors import HostError, UserError
from popcorn.progress import step

KIND = "debuginfo"
_RECIPE = 1
_TWIN_BYTES = 1 << 30
# The linker hashes a whole file, debug information too, into a note: of the kernel, and of the vDSO within it.
_BUILD_ID = re.compile(rb"(\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0).{20}", re.DOTALL)
_ADVICE = "please report it; the kernel can be debugged without lines: leave out the debug information"


def debug_info_of(kernel_key: str) -> Path | None:
    """The twin's vmlinux of a kernel, by the kernel's key in the store; None if it is not built. Raises UserError
    when it is damaged."""
    entry = find(KIND, _inputs(kernel_key))
    return entry / "vmlinux" if entry is not None else None


def build_debug_info(
    series: str = "6.12",
    flavour: str = "default",
    source: Path | None = None,
    *,
    rebuild: bool = False,
    jobs: int = 0,
) -> tuple[KernelArtifact, Path]:
    """Return the kernel of a series and flavour, and the vmlinux of its twin, building what the store has not.

    Raises the errors of `build_kernel`, and HostError when the twin is not the same kernel.
    """
    if named_kernel(series, flavour) is not None:
        raise UserError(
            f"the kernel that ${KERNEL_VARIABLE} names is not that of the series {series}: its twin cannot be built",
            hint="unset the variable, or leave out the debug information",
        )
    chosen = load_series(series)
    base = find_base(chosen, source, update=False)
    kernel = build_kernel(series, flavour, source, jobs=jobs)

    def build(staging: Path) -> None:
        _build(staging, kernel, chosen, base, jobs)

    entry = get_or_build(KIND, _inputs(kernel.key), build, rebuild=rebuild, need_bytes=_TWIN_BYTES)
    return kernel, entry / "vmlinux"


def _inputs(kernel_key: str) -> dict[str, Any]:
    return {"recipe": _RECIPE, "kernel": kernel_key}


def _build(staging: Path, kernel: KernelArtifact, series: Series, base: Base, jobs: int) -> None:
    if kernel_inputs(series, kernel.flavour, base, popcorn=True) != kernel.manifest["inputs"]:
        raise HostError(f"the kernel {kernel.key} changed while its debug information was built", hint="try again")
    requests = requests_of(fragments(series, kernel.flavour), popcorn=True)
    log = cache_dir() / "logs" / f"debuginfo-{series.name}-{kernel.flavour}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    with workspace(series.name, apply_series(base, series).head) as place:
        kbuild = Kbuild(
            place.objects(f"{kernel.flavour}-debuginfo"),
            log,
            local_version=local_version(kernel.flavour, True),
            jobs=jobs,
            debug_info=True,
        )
        with step(f"configuring the kernel ({kernel.flavour})"):
            configure(kbuild, requests)
        with step(f"building the kernel {base.version} ({kernel.flavour}) with debug information") as progress:
            kbuild.make("vmlinux", step=progress)
        with step("comparing it with the kernel"):
            require_same_code(kernel.vmlinux_debug, kbuild.objects / "vmlinux")
        shutil.copyfile(kbuild.objects / "vmlinux", staging / "vmlinux")


def require_same_code(kernel: Path, twin: Path) -> None:
    """Compare what of two images gets into memory, and their symbols.

    Raises:
        HostError: they differ; the message names the first section, or the symbol.
    """
    ours, theirs = _contents(kernel), _contents(twin)
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise HostError(
                f"{twin} is not the kernel {kernel} with debug information: section {name} differs", hint=_ADVICE
            )
    ours_at, theirs_at = _symbols(kernel), _symbols(twin)
    if ours_at != theirs_at:
        (address, symbol) = min(ours_at ^ theirs_at)
        raise HostError(
            f"{twin} is not the kernel {kernel} with debug information: symbol {symbol} at {address:#x} is in one only",
            hint=_ADVICE,
        )


def _contents(image: Path) -> dict[str, tuple[int, int, str]]:
    """Address, size and hash of each section that is loaded."""
    with image.open("rb") as file:
        return {
            section.name: (
                section["sh_addr"],
                section["sh_size"],
                "" if section["sh_type"] == "SHT_NOBITS" else _hash_of(section.data()),
            )
            for section in ELFFile(file).iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC
        }


def _hash_of(content: bytes) -> str:
    return hashlib.sha256(_BUILD_ID.sub(rb"\1", content)).hexdigest()


def _symbols(image: Path) -> set[tuple[int, str]]:
    with image.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return set()
        return {
            (symbol["st_value"], symbol.name)
            for symbol in table.iter_symbols()
            if symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT") and symbol["st_shndx"] != "SHN_UNDEF"
        }
