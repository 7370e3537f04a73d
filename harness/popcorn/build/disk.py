# SPDX-License-Identifier: Apache-2.0
"""Room on the disk: asked for before work is started, and named when it runs out during work."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popcorn.errors import DiskFullError, NoRoomError


def disk_full(path: Path, purpose: str, *, variable: str = "POPCORN_CACHE") -> DiskFullError:
    """The error for `purpose` failing in `path` for lack of space.

    Args:
        variable: what moves that place elsewhere.
    """
    return DiskFullError(
        f"the disk is full: {purpose} ran out of space: {path} has {_shown(free_bytes(path))}", hint=_hint(variable)
    )


def _hint(variable: str) -> str:
    return (
        "free some space there (`popcorn doctor` shows the caches, `popcorn prune` empties them of what is old), "
        f"or set {variable} to a directory on a larger disk"
    )


def free_bytes(path: Path) -> int:
    """What an ordinary user can still write on the file system that holds `path` (which may not exist yet)."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def need_free_space(path: Path, need_bytes: int, purpose: str, *, variable: str = "POPCORN_CACHE") -> None:
    """Raise NoRoomError unless `need_bytes` are free where `path` is: before anything is begun."""
    free = free_bytes(path)
    if free < need_bytes:
        raise NoRoomError(
            f"the disk is full: {purpose} needs {_shown(need_bytes)} free, {path} has {_shown(free)}",
            hint=_hint(variable),
        )


@contextmanager
def full_disk_named(path: Path, purpose: str, *, variable: str = "POPCORN_CACHE") -> Iterator[None]:
    """Where the system only says that a write had no room: raise DiskFullError, which says where, and what helps."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path, purpose, variable=variable) from error
        raise


def _shown(count_bytes: int) -> str:
    return f"{count_bytes / 2**30:.1f} GiB" if count_bytes >= 2**30 else f"{count_bytes / 2**20:.0f} MiB"
