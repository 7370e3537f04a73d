# SPDX-License-Identifier: Apache-2.0
"""One at a time changes who owns what on a machine; the next one waits, and is told for whom."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from popcorn import progress
from popcorn.errors import UserError
from popcorn.files import write_atomic

if TYPE_CHECKING:
    from popcorn.machine.machine import Machine

_LOCK = "changing.lock"
_WHO = "changing.who"
# A machine of many kernels takes minutes to be cut anew under emulation.
_PATIENCE_S = 600.0
_LOOK_S = 0.5


@contextmanager
def changing(machine: Machine, what: str, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Be the only one that changes a machine, whose record and plan are read anew then.

    Args:
        what: as others are told of it, e.g. ``stop 5``.
        patience_s: how long to wait for somebody else.

    Raises:
        UserError: somebody else does not come to an end.
        MachineLostError: the machine is gone.
    """
    folder = machine.record.directory
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with progress.step(f"waiting for {_who(folder)}"):
            _wait(machine, lock, folder, patience_s)
    try:
        write_atomic(folder / _WHO, f"`popcorn {what}` (process {os.getpid()})")
        machine.refresh()
        yield
    finally:
        lock.release()


def _wait(machine: Machine, lock: FileLock, folder: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=_LOOK_S)
            return
        if not machine.alive():
            raise machine.lost()
        if time.monotonic() > deadline:
            raise UserError(
                f"{_who(folder)} has been changing the machine {machine.name!r} for {patience_s:g} s",
                hint="wait until that has ended, or end it: the next command goes on where it was",
            )


def _who(folder: Path) -> str:
    try:
        return (folder / _WHO).read_text(encoding="utf-8")
    except OSError:
        return "another command"
