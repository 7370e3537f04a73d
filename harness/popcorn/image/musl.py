# SPDX-License-Identifier: Apache-2.0
"""Debian's musl as gcc's C library, for static programs: what to compile and link with.

Nothing of musl is installed on the host: gcc is told where its headers and objects are.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from popcorn.files import sha256_file
from popcorn.image.debian import PACKAGES, debian_files
from popcorn.process import run

_LIBRARIES = "/usr/lib/x86_64-linux-musl"
_HEADERS = "/usr/include/x86_64-linux-musl"


@dataclass(frozen=True)
class Musl:
    """Words for gcc's command line."""

    compile: tuple[str, ...]
    link: tuple[str, ...]
    """What comes before a program's own objects."""
    link_end: tuple[str, ...]
    """What comes after them."""
    sha256: str
    """Of the package's version, for keys in the store."""


# Debian's gcc makes position-independent programs and stack guards by default; musl's objects here have neither.
PLAIN = ("-fno-pie", "-no-pie", "-fno-stack-protector")


def musl() -> Musl:
    """Where musl is. Raises HostError when its package cannot be fetched or there is no gcc."""
    fetched = debian_files({"musl-dev": {_LIBRARIES: _LIBRARIES, _HEADERS: _HEADERS}})
    root = fetched / "root"
    libraries = root / _LIBRARIES.lstrip("/")
    headers = root / _HEADERS.lstrip("/")
    return Musl(
        compile=("-nostdinc", "-isystem", str(headers), "-isystem", compiler_file("include")),
        link=("-nostdlib", str(libraries / "crt1.o"), str(libraries / "crti.o")),
        link_end=(str(libraries / "libc.a"), compiler_file("libgcc.a"), str(libraries / "crtn.o")),
        sha256=sha256_file(fetched / PACKAGES),
    )


@functools.cache
def compiler_id() -> str:
    """The version of gcc, for keys in the store."""
    return run(["gcc", "--version"]).stdout.splitlines()[0]


@functools.cache
def compiler_file(name: str) -> str:
    """Where gcc has a file of its own."""
    return run(["gcc", f"-print-file-name={name}"]).stdout.strip()
