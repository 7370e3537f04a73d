# SPDX-License-Identifier: Apache-2.0
"""Writing files so that nobody sees half of one, and hashing what is in them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import tempfile
from pathlib import Path

_CHUNK_BYTES = 1 << 20
# renameat2(2)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_atomic(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a whole file under a temporary name beside it, then rename it into place."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            os.fchmod(out.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def exchange(one: Path, other: Path) -> bool:
    """Let two files or directories of one file system change their names at once; False where that cannot be done."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def sha256_bytes(content: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(root: Path) -> str:
    """Hex digest of a directory: names, contents, symbolic links and whether files are executable.

    Times and owners do not count, so that two checkouts of the same tree agree.
    """
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*"), key=lambda p: p.relative_to(root).as_posix()):
        if "__pycache__" in path.parts:
            continue
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            entry = f"l {name}\0{os.readlink(path)}"
        elif path.is_dir():
            entry = f"d {name}"
        else:
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            entry = f"{'x' if executable else 'f'} {name}\0{sha256_file(path)}"
        digest.update(f"{len(entry)}:{entry}\n".encode())
    return digest.hexdigest()


def tree_size_bytes(root: Path) -> int:
    """How much disk a directory takes (blocks in use, each file counted once)."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for directory, _, names in os.walk(root):
        for name in names:
            try:
                status = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def private(path: str, flags: int) -> int:
    """For `open(…, opener=private)`: a file that nobody else can read, whatever the umask."""
    return os.open(path, flags, 0o600)
