# SPDX-License-Identifier: Apache-2.0
"""Initramfs archives in the kernel's `newc` cpio format, the same bytes for the same content.

Nothing of the host gets in: owner and group are root, times are zero, inode numbers count from 1, names are sorted.
Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from popcorn.errors import UserError

ALIGNMENT = 4
_TRAILER = "TRAILER!!!"
_LARGEST_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class Node:
    """What one name in an archive stands for; made by `directory`, `regular`, `link` and `device`."""

    mode: int
    content: bytes | Path = b""
    """A file's bytes or where they are on the host; a symbolic link's target."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""

    def size(self) -> int:
        """Length of the content in bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


Tree = dict[str, Node]
"""Absolute guest paths to nodes."""


def directory(permissions: int = 0o755) -> Node:
    return Node(stat.S_IFDIR | permissions)


def regular(content: bytes | Path, permissions: int = 0o644) -> Node:
    return Node(stat.S_IFREG | permissions, content)


def link(target: str) -> Node:
    return Node(stat.S_IFLNK | 0o777, target.encode())


def device(major: int, minor: int, permissions: int) -> Node:
    """A character device node."""
    return Node(stat.S_IFCHR | permissions, b"", (major, minor))


def write_cpio(out: BinaryIO, tree: Mapping[str, Node]) -> None:
    """Append one archive to a stream whose position is a multiple of 4, and pad it to one.

    Parent directories that the tree does not name are added. Archives can follow each other; the kernel unpacks
    them in turn, and a file of a later one replaces that of an earlier one.

    Raises UserError for a file that the format cannot hold.
    """
    number = 0
    for number, (path, node) in enumerate(_with_parents(tree), start=1):
        _write_entry(out, number, path.lstrip("/"), node)
    _write_entry(out, number + 1, _TRAILER, Node(0))


def _with_parents(tree: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    complete = dict(tree)
    for path in tree:
        if not path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise UserError(f"{path!r} is no absolute path for an image")
        for parent in PurePosixPath(path).parents:
            if str(parent) != "/":
                complete.setdefault(str(parent), directory())
    # A directory sorts before what is in it, as the kernel needs it.
    return iter(sorted(complete.items()))


def _write_entry(out: BinaryIO, inode: int, name: str, node: Node) -> None:
    size = node.size()
    if size > _LARGEST_BYTES:
        raise UserError(f"{name} has {size} bytes: an initramfs file holds at most {_LARGEST_BYTES}")
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    fields = (
        inode, node.mode, 0, 0, links, 0, size, 0, 0, *node.device, len(encoded), 0,
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    out.write(header + _padding(len(header)))
    if isinstance(node.content, Path):
        content = node.content.read_bytes()
        if len(content) != size:
            raise UserError(f"{node.content} changed while it was read")
    else:
        content = node.content
    out.write(content)
    out.write(_padding(size))


def _padding(length: int) -> bytes:
    return bytes(-length % ALIGNMENT)
