# SPDX-License-Identifier: Apache-2.0
"""Compiling the static programs that images hold.

They are linked with musl, because every byte of a secondary's image is copied once for each kernel. The benchmarks
bring as much of an OpenMP runtime as they need.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from popcorn.build.store import get_or_build
from popcorn.dirs import source_root
from popcorn.errors import HostError
from popcorn.files import sha256_tree
from popcorn.image.musl import PLAIN, compiler_id, musl
from popcorn.process import run
from popcorn.progress import step

_KERNEL_HEADERS = ("/usr/include", "/usr/include/x86_64-linux-gnu")
_COMMON = ["-std=gnu11", "-Wall", "-Wextra", "-static", "-s", "-Wl,--build-id=none"]
_COMMON += ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
_SMALL = ["-Os"]
_FAST = ["-O2", "-fopenmp"]


def guest_program(name: str, include: Path | None = None) -> Path:
    """The static program made of the C files in `images/programs/NAME/`.

    Args:
        include: folder with the series' headers for user space, from the kernel that it is for.

    Raises HostError when there is no such folder or the compiler fails.
    """
    return _with_musl(name, source_root() / "images" / "programs" / name, _SMALL, include)


def npb_program() -> Path:
    """The NAS benchmarks of `testsuites/npb/` as one static program. Raises HostError when the compiler fails."""
    return _with_musl("npb", source_root() / "testsuites" / "npb", _FAST)


def suite_program(name: str, include: Path | None = None) -> Path:
    """A static program that suites copy into kernels: the C files in `testsuites/NAME/`; else as `guest_program`."""
    return _with_musl(name, source_root() / "testsuites" / name, _SMALL, include)


def _with_musl(name: str, folder: Path, optimized: list[str], include: Path | None = None) -> Path:
    libc = musl()
    flags = [*_COMMON, *optimized, *PLAIN]
    inputs: dict[str, object] = {"flags": flags, "musl": libc.sha256}
    before = [*flags, *libc.compile, *libc.link]
    if include is not None:
        inputs["include"] = sha256_tree(include)
        # The kernel's own headers last: where musl has a file of the same name, musl's is meant.
        for path in (str(include), *_KERNEL_HEADERS):
            before += ["-idirafter", path]
    return _compile(name, folder, inputs, before, list(libc.link_end))


def _compile(name: str, folder: Path, inputs: Mapping[str, object], before: list[str], after: list[str]) -> Path:
    sources = sorted(folder.glob("*.c"))
    if not sources:
        raise HostError(f"{folder} holds no C file of {name}", hint="install Popcorn again, or run it from a checkout")

    def build(into: Path) -> None:
        with step(f"compiling {name}"):
            # Relative names, so that the place of the checkout does not get into the program.
            files = [source.name for source in sources]
            run(["gcc", *before, "-o", into / name, *files, *after], cwd=folder)

    key = {"name": name, "sources": sha256_tree(folder), "compiler": compiler_id(), **inputs}
    return get_or_build("program", key, build) / name
