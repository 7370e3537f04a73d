# SPDX-License-Identifier: Apache-2.0
"""A content-addressed store of built things.

An entry is a directory `cache/store/KIND/KEY`, where KEY is a hash of everything that went into it. An entry
appears complete or not at all: it is built in a staging directory beside the others and renamed into place while
its lock is held. Whoever asks for an entry that somebody else is building waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from popcorn.build.disk import full_disk_named, need_free_space
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import exchange, sha256_bytes, sha256_file
from popcorn.progress import step

FORMAT = 1
MANIFEST = "manifest.json"
STAGING_SUFFIX = ".partial"
_REHASH_AFTER_S = 7 * 24 * 3600

Build = Callable[[Path], None]
"""Fills an empty directory with what the entry shall hold."""


class CorruptEntryError(UserError):
    """A cache entry is not what its manifest says it is."""


@dataclass(frozen=True)
class Manifest:
    """What an entry was made from and what it must contain."""

    kind: str
    key: str
    inputs: dict[str, Any]
    files: dict[str, tuple[int, str]]
    """Relative path to (size in bytes, sha256); a symbolic link hashes its target's name."""

    def to_json(self) -> str:
        """The text of manifest.json; the same entry always gives the same bytes."""
        files = {name: {"size": size, "sha256": digest} for name, (size, digest) in sorted(self.files.items())}
        document = {
            "format": FORMAT,
            "kind": self.kind,
            "key": self.key,
            "inputs": self.inputs,
            "files": files,
        }
        return json.dumps(document, indent=1, sort_keys=True) + "\n"


def entry_key(kind: str, inputs: dict[str, Any]) -> str:
    """The name of the entry that `inputs` (JSON values only) lead to."""
    canonical = json.dumps([FORMAT, kind, inputs], sort_keys=True, separators=(",", ":"))
    return sha256_bytes(canonical.encode())[:32]


def store_dir(kind: str) -> Path:
    """Where the entries of one kind live; made if it is missing."""
    path = cache_dir() / "store" / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


def entries(kind: str) -> list[Path]:
    """The entries of one kind; not what is being built, or was when its builder was killed."""
    return sorted(
        path for path in store_dir(kind).iterdir() if path.is_dir() and not path.name.endswith(STAGING_SUFFIX)
    )


def find(kind: str, inputs: dict[str, Any]) -> Path | None:
    """The entry for `inputs`, checked, or None when it is not built. Raises CorruptEntryError."""
    entry = store_dir(kind) / entry_key(kind, inputs)
    if not entry.is_dir():
        return None
    check(entry)
    return entry


def get_or_build(
    kind: str,
    key_inputs: dict[str, Any],
    build: Build,
    *,
    rebuild: bool = False,
    need_bytes: int = 0,
) -> Path:
    """Return the entry for `key_inputs`, calling `build(empty_directory)` first when there is none.

    `need_bytes` is the room that building takes; less free space than that is told before anything is started.
    With `rebuild`, an existing entry is replaced, but only once its successor is complete.

    Raises CorruptEntryError, NoRoomError (before anything is begun), DiskFullError, and whatever `build` raises; in
    each case nothing half-made is left behind.
    """
    entry = store_dir(kind) / entry_key(kind, key_inputs)
    if not rebuild and entry.is_dir():
        # What looks corrupt may be changing places with its successor: look again when nobody is at work on it.
        with contextlib.suppress(CorruptEntryError):
            check(entry)
            return entry
    with locked(f"{kind}-{entry.name}", f"the same {kind} (by another popcorn)"):
        if not rebuild and entry.is_dir():
            check(entry)
            return entry
        sweep_stale(kind)
        purpose = f"building {kind} {entry.name[:8]}"
        need_free_space(entry.parent, need_bytes, purpose)
        staging = entry.with_name(entry.name + STAGING_SUFFIX)
        _remove(staging)
        staging.mkdir()
        try:
            with full_disk_named(entry.parent, purpose):
                build(staging)
                _seal(staging, kind, entry.name, key_inputs)
                _replace(entry, staging)
        finally:
            _remove(staging)
    return entry


def load_manifest(entry: Path) -> Manifest:
    """Read an entry's manifest. Raises CorruptEntryError when it is missing or is not one."""
    try:
        document = json.loads((entry / MANIFEST).read_text())
        files = {name: (int(fact["size"]), str(fact["sha256"])) for name, fact in document["files"].items()}
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, expected {FORMAT}")
        return Manifest(str(document["kind"]), str(document["key"]), dict(document["inputs"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(entry, MANIFEST, f"is unreadable ({error})") from error


def check(entry: Path) -> Manifest:
    """Compare an entry with its manifest.

    Sizes are compared always. A file is hashed again when its inode, times or size are not those seen when it was
    last hashed, and once a week in any case, so an unchanged entry costs a few `stat` calls.
    """
    manifest = load_manifest(entry)
    if manifest.key != entry.name:
        raise _corrupt(entry, MANIFEST, f"belongs to another entry, {manifest.key}")
    found = {name: _identity(entry / name) for name in manifest.files}
    for name, (size, _) in manifest.files.items():
        identity = found[name]
        if identity is None:
            raise _corrupt(entry, name, "is missing")
        if identity[0] != size:
            raise _corrupt(entry, name, f"has {identity[0]} bytes, expected {size}")
    seal = entry.with_name(entry.name + ".seen")
    _mark_used(entry)
    if _read_seal(seal) == found:
        return manifest
    for name, (_, digest) in manifest.files.items():
        actual = _digest(entry / name)
        if actual != digest:
            raise _corrupt(entry, name, f"has sha256 {actual[:16]}…, expected {digest[:16]}…")
    _write_seal(seal, found)
    return manifest


@contextlib.contextmanager
def locked(name: str, busy_with: str) -> Iterator[None]:
    """Hold the lock `name` among all popcorn commands of this cache; say so when waiting for another holder.

    The kernel drops the lock with its holder, however that one ends.
    """
    directory = cache_dir() / "locks"
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with step(f"waiting for {busy_with}"):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sweep_stale(kind: str) -> None:
    """Remove what a killed command left half-made: staging directories whose lock nobody holds.

    The caller's own staging directory is spared by its lock being held (by the caller).
    """
    for staging in store_dir(kind).glob(f"*{STAGING_SUFFIX}"):
        lock = FileLock(cache_dir() / "locks" / f"{kind}-{staging.name.removesuffix(STAGING_SUFFIX)}.lock")
        try:
            with lock.acquire(timeout=0):
                _remove(staging)
        except (Timeout, FileNotFoundError):
            continue
    for seal in store_dir(kind).glob("*.seen.*"):
        if not Path("/proc", seal.suffix[1:]).exists():
            seal.unlink(missing_ok=True)


def _seal(staging: Path, kind: str, key: str, inputs: dict[str, Any]) -> None:
    files: dict[str, tuple[int, str]] = {}
    for path in sorted(staging.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        files[path.relative_to(staging).as_posix()] = (path.lstat().st_size, _digest(path))
    (staging / MANIFEST).write_text(Manifest(kind, key, inputs, files).to_json())


def _replace(entry: Path, staging: Path) -> None:
    if entry.exists():
        # Others may be reading the old files, or be about to: the entry is never missing.
        if not exchange(staging, entry):
            old = entry.with_name(entry.name + ".old" + STAGING_SUFFIX)
            _remove(old)
            entry.rename(old)
            staging.rename(entry)
            _remove(old)
    else:
        staging.rename(entry)
    found = {name: _identity(entry / name) for name in load_manifest(entry).files}
    _write_seal(entry.with_name(entry.name + ".seen"), found)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # A neighbour's sweep may be removing the same leftover.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    if path.is_symlink():
        return sha256_bytes(os.readlink(path).encode())
    return sha256_file(path)


def _identity(path: Path) -> list[int] | None:
    try:
        fact = path.lstat()
    except FileNotFoundError:
        return None
    return [fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns, fact.st_ino]


def _mark_used(entry: Path) -> None:
    """For `prune`; a cache that others may only read is used all the same."""
    with contextlib.suppress(OSError):
        os.utime(entry / MANIFEST)


def _read_seal(seal: Path) -> dict[str, Any] | None:
    try:
        # One from the future is from before somebody set the clock back.
        if not 0 <= time.time() - seal.stat().st_mtime <= _REHASH_AFTER_S:
            return None
        value = json.loads(seal.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_seal(seal: Path, found: dict[str, Any]) -> None:
    # Only a shortcut: a cache on a read-only or full disk still works without it.
    with contextlib.suppress(OSError):
        temporary = seal.with_name(f"{seal.name}.{os.getpid()}")
        temporary.write_text(json.dumps(found))
        temporary.replace(seal)


def _corrupt(entry: Path, name: str, what: str) -> CorruptEntryError:
    return CorruptEntryError(
        f"the cache entry {entry} is corrupted: {name} {what}",
        hint=f"rebuild it with `popcorn build --rebuild`, or remove it: rm -r {entry}",
    )
