# SPDX-License-Identifier: Apache-2.0
"""Putting together what one boot of a primary gets: its image, the kernels it starts, keys and orders.

The kernel unpacks archives that follow each other, so the big parts are used as they lie in the store.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.image.build import ImageArtifact
from popcorn.image.cpio import ALIGNMENT, regular, write_cpio

Files = Mapping[str, tuple[bytes, int]]
"""Guest path to (content, permissions)."""


def overlay(files: Files) -> bytes:
    """An archive of a few files, to follow an image; its length is a multiple of 4."""
    out = io.BytesIO()
    write_cpio(out, {path: regular(content, permissions) for path, (content, permissions) in files.items()})
    return out.getvalue()


def write_initrd(
    path: Path,
    primary: ImageArtifact,
    files: Files,
    *,
    kernel: KernelArtifact | None = None,
    secondary: ImageArtifact | None = None,
    secondary_files: Files | None = None,
) -> None:
    """Write the initrd that QEMU gives to the primary.

    Args:
        files: what this one boot adds: keys, /etc/popcorn/kernels/ID.conf, /etc/popcorn/launch.
        kernel: what the secondaries run, put at /boot/vmlinux.
        secondary: their image, put at /boot/secondary.cpio.
        secondary_files: what this one boot adds to it: keys, names.
    """
    boot = {}
    if kernel is not None:
        boot["/boot/vmlinux"] = regular(kernel.vmlinux)
    if secondary is not None:
        boot["/boot/secondary.cpio"] = regular(_with_overlay(secondary.cpio, secondary_files or {}))
    with path.open("wb") as out:
        with primary.cpio.open("rb") as image:
            shutil.copyfileobj(image, out, 1 << 20)
        if boot:
            write_cpio(out, boot)
        out.write(overlay(files))


def _with_overlay(image: Path, files: Files) -> bytes:
    content = image.read_bytes()
    # A user's own image may be compressed and of any length.
    return content + bytes(-len(content) % ALIGNMENT) + overlay(files)
