# SPDX-License-Identifier: Apache-2.0
"""Putting together what one boot of a primary gets: its image, the kernels it starts, keys and orders.

The kernel unpacks archives that follow each other, so the big parts are used as they lie in the store.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.files import sha256_bytes
from popcorn.image import cpio
from popcorn.image.build import ImageArtifact
from popcorn.image.cpio import ALIGNMENT, Tree, directory, regular, write_cpio

Files = Mapping[str, tuple[bytes, int]]
"""Guest path to (content, permissions)."""


@dataclass(frozen=True)
class Startable:
    """What the primary keeps to start kernels from; any of them may run it."""

    vmlinux: Path
    image: Path
    """An initramfs."""
    folder: str = "/boot"
    """Where both are in the primary, as `vmlinux_path` and `initrd_path` tell."""

    @property
    def vmlinux_path(self) -> str:
        return f"{self.folder}/vmlinux"

    @property
    def initrd_path(self) -> str:
        return f"{self.folder}/secondary.cpio"


def files_digest(files: Files) -> str:
    """Equal digests mean equal files."""
    return sha256_bytes(
        json.dumps([(path, mode, sha256_bytes(content)) for path, (content, mode) in sorted(files.items())]).encode()
    )


def initrd_rules() -> str:
    """Equal digests mean that the same parts are put together in the same way."""
    return sha256_bytes(b"".join(Path(module).read_bytes() for module in (__file__, cpio.__file__)))


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
    startable: Sequence[Startable] = (),
    secondary_files: Files | None = None,
) -> None:
    """Write the initrd that QEMU gives to the primary.

    Args:
        files: what this one boot adds: keys, /etc/popcorn/kernels/ID.conf, /etc/popcorn/launch.
        startable: what the secondaries run.
        secondary_files: what this one boot adds to their images: keys, names.
    """
    boot: Tree = {}
    for one in startable:
        if one.folder != "/boot":
            boot[one.folder] = directory()
        boot[one.vmlinux_path] = regular(one.vmlinux)
        # It holds the private key of their sshd.
        boot[one.initrd_path] = regular(with_overlay(one.image, secondary_files or {}), 0o600)
    with path.open("wb") as out:
        with primary.cpio.open("rb") as image:
            shutil.copyfileobj(image, out, 1 << 20)
        if boot:
            write_cpio(out, boot)
        out.write(overlay(files))


def with_overlay(image: Path, files: Files) -> bytes:
    """An image with a few more files."""
    content = image.read_bytes()
    # A user's own image may be compressed and of any length.
    return content + bytes(-len(content) % ALIGNMENT) + overlay(files)
