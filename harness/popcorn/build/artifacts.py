# SPDX-License-Identifier: Apache-2.0
"""What the build layer hands to the layers above: paths into the store and the facts about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class KernelArtifact:
    """One built kernel in the store. Every path is inside `dir` and read-only."""

    dir: Path
    key: str
    """Hash of everything that went in; equal keys mean equal kernels."""
    release: str
    """What `uname -r` says inside the guest."""
    series: str
    flavour: str
    vmlinux: Path
    """ELF image without symbols and the linker's padding, what kexec-popcorn loads for a secondary."""
    vmlinux_debug: Path
    """The same image with symbols and debug information."""
    bzimage: Path
    """What QEMU boots as the primary."""
    config: Path
    system_map: Path
    header: Path | None
    """The `popcorn.h` this kernel was built with; None for a kernel without the series."""
    include: Path | None
    """Folder with the headers of the series for guest programs, as `linux/popcorn.h`."""
    log: Path
    manifest: dict[str, Any]


@dataclass(frozen=True)
class KexecArtifact:
    """The static `kexec` for the guest, built from Debian's kexec-tools and our patches."""

    dir: Path
    key: str
    version: str
    """Debian's version of the kexec-tools source."""
    binary: Path
    log: Path
    manifest: dict[str, Any]
