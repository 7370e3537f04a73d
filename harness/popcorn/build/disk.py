# SPDX-License-Identifier: Apache-2.0
"""Room on the disk: asked for before work is started, and named when it runs out during work."""

from __future__ import annotations

import shutil
from pathlib import Path

from popcorn.errors import DiskFullError


def disk_full(path: Path, need_bytes: int, purpose: str) -> DiskFullError:
    """The error for `purpose` failing in `path`, which needs `need_bytes` (0: not known)."""
    need = f" needs {_shown(need_bytes)} free," if need_bytes else " ran out of space:"
    return DiskFullError(
        f"the disk is full: {purpose}{need} {path} has {_shown(free_bytes(path))}",
        hint="free some space there (`popcorn doctor` shows the caches), or set POPCORN_CACHE to a directory on a "
        "larger disk",
    )


def free_bytes(path: Path) -> int:
    """What an ordinary user can still write on the file system that holds `path` (which may not exist yet)."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def need_free_space(path: Path, need_bytes: int, purpose: str) -> None:
    """Raise DiskFullError unless `need_bytes` are free where `path` is."""
    if free_bytes(path) < need_bytes:
        raise disk_full(path, need_bytes, purpose)


def _shown(count_bytes: int) -> str:
    return f"{count_bytes / 2**30:.1f} GiB" if count_bytes >= 2**30 else f"{count_bytes / 2**20:.0f} MiB"
