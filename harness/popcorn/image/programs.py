# SPDX-License-Identifier: Apache-2.0
"""Compiling the static programs that images hold.

They are linked with musl, because every byte of a secondary's image is copied once for each kernel. The benchmarks
bring as much of an OpenMP runtime as they need.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from popcorn.build.store import get_or_build
from popcorn.dirs import source_root
from popcorn.errors import HostError
from popcorn.files import sha256_file, sha256_tree
from popcorn.image.debian import PACKAGES, debian_files
from popcorn.process import run
from popcorn.progress import step

_MUSL = "/usr/lib/x86_64-linux-musl"
_MUSL_HEADERS = "/usr/include/x86_64-linux-musl"
_KERNEL_HEADERS = ("/usr/include", "/usr/include/x86_64-linux-gnu")
_COMMON = ["-std=gnu11", "-Wall", "-Wextra", "-static", "-s", "-Wl,--build-id=none"]
_COMMON += ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
_SMALL = ["-Os"]
# Debian's gcc makes position-independent programs and stack guards by default; musl's objects here have neither.
_PLAIN = ["-fno-pie", "-no-pie", "-fno-stack-protector"]
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


def _with_musl(name: str, folder: Path, optimized: list[str], include: Path | None = None) -> Path:
    musl = debian_files({"musl-dev": {_MUSL: _MUSL, _MUSL_HEADERS: _MUSL_HEADERS}})
    root = musl / "root"
    libraries = root / _MUSL.lstrip("/")
    flags = [*_COMMON, *optimized, *_PLAIN]
    inputs: dict[str, object] = {"flags": flags, "musl": sha256_file(musl / PACKAGES)}
    before = ["-nostdinc", "-isystem", str(root / _MUSL_HEADERS.lstrip("/")), "-isystem", _compiler_file("include")]
    before += ["-nostdlib", str(libraries / "crt1.o"), str(libraries / "crti.o")]
    if include is not None:
        inputs["include"] = sha256_tree(include)
        # The kernel's own headers last: where musl has a file of the same name, musl's is meant.
        for path in (str(include), *_KERNEL_HEADERS):
            before += ["-idirafter", path]
    after = [str(libraries / "libc.a"), _compiler_file("libgcc.a"), str(libraries / "crtn.o")]
    return _compile(name, folder, inputs, [*flags, *before], after)


def _compile(name: str, folder: Path, inputs: Mapping[str, object], before: list[str], after: list[str]) -> Path:
    sources = sorted(folder.glob("*.c"))
    if not sources:
        raise HostError(f"{folder} holds no C file of {name}", hint="install Popcorn again, or run it from a checkout")

    def build(into: Path) -> None:
        with step(f"compiling {name}"):
            # Relative names, so that the place of the checkout does not get into the program.
            files = [source.name for source in sources]
            run(["gcc", *before, "-o", into / name, *files, *after], cwd=folder)

    key = {"name": name, "sources": sha256_tree(folder), "compiler": _compiler_id(), **inputs}
    return get_or_build("program", key, build) / name


@functools.cache
def _compiler_id() -> str:
    return run(["gcc", "--version"]).stdout.splitlines()[0]


@functools.cache
def _compiler_file(name: str) -> str:
    return run(["gcc", f"-print-file-name={name}"]).stdout.strip()
