# SPDX-License-Identifier: Apache-2.0
"""What the cache holds and nobody has used for long.

Everything there can be made again, so age alone decides: each use leaves its time on the manifest of a built thing,
on the folder of a kernel tree and of a Python environment. Snapshots have a limit of their own (`snapshot.shelf`);
downloads and the compiler's cache are small, or keep to one.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from popcorn.build.store import MANIFEST, STAGING_SUFFIX
from popcorn.dirs import cache_dir
from popcorn.files import tree_size_bytes

_GONE_SUFFIX = ".gone"


@dataclass(frozen=True)
class Unused:
    """A folder of the cache."""

    what: str
    """``kernel``, ``image`` and other kinds of built things, ``kernel tree`` or ``python``."""
    path: Path
    used_s: float
    """When it was used last, in Unix time."""

    @property
    def size_bytes(self) -> int:
        """The disk that it takes."""
        return tree_size_bytes(self.path)


def unused(before_s: float) -> list[Unused]:
    """What was used last before a time (Unix), the longest unused first."""
    return sorted((one for one in _all() if one.used_s < before_s), key=lambda one: one.used_s)


def remove(one: Unused) -> bool:
    """Remove it, unless somebody holds it or has used it meanwhile; whether it is gone.

    Killed halfway it leaves nothing that looks whole; `sweep` removes the rest.

    Raises:
        OSError: the cache cannot be changed.
    """
    gone = _aside(one)
    with _held(one) as mine:
        if not mine or not one.path.exists() or _used_s(one.path) > one.used_s:
            return False
        one.path.rename(gone)
        if _used_s(gone) > one.used_s:
            # Somebody found it just before; the name was free only since then.
            gone.rename(one.path)
            return False
        one.path.with_name(f"{one.path.name}.seen").unlink(missing_ok=True)
    shutil.rmtree(gone, ignore_errors=True)
    return not gone.exists()


def sweep() -> None:
    """Remove what killed predecessors had put aside."""
    for gone in (*_places("build", f"*{_GONE_SUFFIX}"), *_places("python", f"*{_GONE_SUFFIX}")):
        shutil.rmtree(gone, ignore_errors=True)


def _all() -> Iterator[Unused]:
    for path in _places("store", "*/*"):
        if not path.name.endswith(STAGING_SUFFIX):
            yield Unused(path.parent.name, path, _used_s(path))
    for path in _places("build", "*"):
        if not path.name.endswith(_GONE_SUFFIX):
            yield Unused("kernel tree", path, _used_s(path))
    for path in _places("python", "*"):
        # What is half-made has a suffix; this program may run in one.
        if not path.suffix and path != Path(sys.prefix):
            yield Unused("python", path, _used_s(path))


def _places(folder: str, pattern: str) -> list[Path]:
    return sorted(path for path in (cache_dir() / folder).glob(pattern) if path.is_dir())


def _used_s(path: Path) -> float:
    manifest = path / MANIFEST
    try:
        return (manifest if manifest.is_file() else path).stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _aside(one: Unused) -> Path:
    # The store's own sweep knows its suffix.
    of_store = one.path.parent.parent.name == "store"
    return one.path.with_name(one.path.name + (STAGING_SUFFIX if of_store else _GONE_SUFFIX))


@contextmanager
def _held(one: Unused) -> Iterator[bool]:
    """Hold the lock of whoever makes such a thing, if nobody has it."""
    kind = {"kernel tree": "build"}.get(one.what, one.what)
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{kind}-{one.path.name}.lock").acquire(timeout=0):
            yield True
    except Timeout:
        yield False
