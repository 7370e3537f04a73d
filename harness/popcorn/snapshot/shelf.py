# SPDX-License-Identifier: Apache-2.0
"""Where snapshots lie, for this user alone: those that the user named, and those that `up` made by itself.

The latter are removed, those that were not used for longest first, when all of them take more than
``$POPCORN_SNAPSHOT_LIMIT`` (4 GiB); one that is being read is not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from filelock import FileLock, Timeout

from popcorn.build.disk import full_disk_named
from popcorn.build.store import locked
from popcorn.config.sizes import GIB, parse_size
from popcorn.dirs import cache_dir, snapshots_dir
from popcorn.errors import HostError, UserError
from popcorn.snapshot.file import CorruptSnapshotError, Header, Reader

_SUFFIX = ".snapshot"
_PARTIAL = ".partial"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIMIT_VARIABLE = "POPCORN_SNAPSHOT_LIMIT"
_LIMIT_BYTES = 4 * GIB


class MissingSnapshotError(UserError):
    """There is no snapshot of that name."""


Kind = Literal["named", "automatic"]


@dataclass(frozen=True)
class Snapshot:
    """One that is there. Times in Unix time."""

    name: str
    kind: Kind
    path: Path
    size_bytes: int
    used: float
    """When a machine went on from it last, or it was saved."""
    header: Header | None
    """None if it is corrupted or was written by another version."""
    trouble: str


def folder(kind: Kind) -> Path:
    """The folder of one kind."""
    path = snapshots_dir() if kind == "named" else cache_dir() / "snapshots"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def path_of(name: str, kind: Kind = "named") -> Path:
    """Where a snapshot lies, or would.

    Raises:
        UserError: none can be called that.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a snapshot",
            hint="use up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
        )
    return folder(kind) / f"{name}{_SUFFIX}"


def limit_bytes() -> int:
    """How much automatic snapshots may take; 0 for none.

    Raises:
        UserError: the variable holds no size.
    """
    text = os.environ.get(_LIMIT_VARIABLE, "")
    try:
        return parse_size(text) if text else _LIMIT_BYTES
    except UserError as error:
        raise UserError(f"${_LIMIT_VARIABLE}: {error}", hint=error.hint) from error


@contextmanager
def writing(name: str, kind: Kind) -> Iterator[IO[bytes] | None]:
    """A file that becomes the snapshot when the block ends well, and vanishes when it does not.

    Who saves the same one at the same time is waited for; None if it is there by then.

    Raises:
        DiskFullError: there is no room.
    """
    path = path_of(name, kind)
    with locked(f"snapshot-{name}", "the same snapshot (by another popcorn)"):
        if path.exists():
            yield None
            return
        partial = path.with_name(path.name + _PARTIAL)
        # What a killed command left.
        partial.unlink(missing_ok=True)
        try:
            with full_disk_named(path.parent, f"saving the snapshot {name}", variable=_variable(kind)):
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as out:
                    yield out
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def reading(name: str, kind: Kind = "named") -> Iterator[Reader]:
    """A snapshot, which is not evicted meanwhile.

    Raises:
        MissingSnapshotError: there is none of that name.
        UserError: another version of Popcorn wrote it.
        CorruptSnapshotError: it is damaged.
    """
    path = path_of(name, kind)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        known = ", ".join(snapshot.name for snapshot in snapshots("named"))
        raise MissingSnapshotError(
            f"there is no snapshot {name!r}" + (f" (there are: {known})" if known else ""),
            hint="`popcorn snapshot NAME` saves a machine that is up, `popcorn snapshot ls` lists what is there",
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        reader = Reader(file, path)
        # The oldest-used one is evicted first; a read-only folder evicts nothing.
        with contextlib.suppress(OSError):
            os.utime(file.fileno())
        yield reader


def snapshots(kind: Kind) -> list[Snapshot]:
    """All of a kind, by name."""
    found = []
    for path in sorted(folder(kind).glob(f"*{_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            found.append(_look(path, kind))
    return found


def _look(path: Path, kind: Kind) -> Snapshot:
    header, trouble = None, ""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        try:
            header = Reader(file, path).header
        except CorruptSnapshotError:
            trouble = "corrupted"
        except UserError:
            trouble = "of another version of Popcorn"
    return Snapshot(path.name.removesuffix(_SUFFIX), kind, path, status.st_size, status.st_mtime, header, trouble)


def remove(name: str, kind: Kind = "named") -> None:
    """
    Raises:
        UserError: there is none of that name, or a machine goes on from it just now.
    """
    path = path_of(name, kind)
    if not path.is_file():
        raise MissingSnapshotError(f"there is no snapshot {name!r}", hint="`popcorn snapshot ls` lists what is there")
    if not _unlink_unused(path):
        raise UserError(f"a machine goes on from the snapshot {name!r} just now", hint="try again in a moment")


def evict(limit: int) -> list[str]:
    """Remove automatic snapshots until the others take no more than the limit, in bytes; and what killed commands left.

    Returns the names of those that went.
    """
    _sweep("automatic")
    there = sorted(snapshots("automatic"), key=lambda snapshot: snapshot.used)
    total = sum(snapshot.size_bytes for snapshot in there)
    gone = []
    for snapshot in there:
        if total <= limit:
            break
        if _unlink_unused(snapshot.path):
            total -= snapshot.size_bytes
            gone.append(snapshot.name)
    return gone


def _unlink_unused(path: Path) -> bool:
    """Remove a file that nobody reads."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise HostError(f"cannot remove the snapshot {path}: {error.strerror}") from error
        raise
    return True


def _sweep(kind: Kind) -> None:
    """Remove what killed commands left half-written."""
    for partial in folder(kind).glob(f"*{_PARTIAL}"):
        name = partial.name.removesuffix(_PARTIAL).removesuffix(_SUFFIX)
        lock = FileLock(cache_dir() / "locks" / f"snapshot-{name}.lock")
        with contextlib.suppress(Timeout), lock.acquire(timeout=0):
            partial.unlink(missing_ok=True)


def _variable(kind: Kind) -> str:
    return "POPCORN_SNAPSHOTS" if kind == "named" else "POPCORN_CACHE"
