# SPDX-License-Identifier: Apache-2.0
"""Every error that Popcorn raises on purpose.

    PopcornError               1
    ├── UserError              2   the user asked for something that cannot be
    │   ├── NoRoomError        2   too little room where the user told us to write; nothing was begun
    │   └── SeriesError        2   a series of patches is wrong, does not apply, or asks for what cannot be configured
    ├── HostError              3   the host lacks or refuses something
    │   ├── DiskFullError      3   a disk filled up meanwhile
    │   └── MachineLostError   3   QEMU went away while it was needed
    ├── GuestError             3   a kernel of the machine did not do its part
    ├── CheckFailed            1   what was tested does not hold
    └── FlakyError             4   what was tested holds in some runs and not in others

The numbers are the exit statuses of the command line.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class PopcornError(Exception):
    """Root of the tree.

    The message says what was expected, what was found and where; the hint says
    what to do about it.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UserError(PopcornError):
    """The user's input cannot be used; nothing was started or left behind."""

    exit_status = 2


class NoRoomError(UserError):
    """There is too little space for what was asked for."""


class SeriesError(UserError):
    """The patches or the configuration of a series are wrong: what a CI job, contrary to a desk, is there to find."""


class HostError(PopcornError):
    """The host lacks something, or a program on it failed."""

    exit_status = 3


class DiskFullError(HostError):
    """A file could not be written for lack of space (or quota)."""


class HostMemoryError(HostError):
    """The host has no memory for something."""


class MachineLostError(HostError):
    """The machine (its QEMU) went away while somebody was using it."""


class GuestError(PopcornError):
    """A kernel or a program inside the machine failed or did not answer."""

    exit_status = 3


class CheckFailed(PopcornError):
    """A test or a verification ran to its end and its answer is no."""

    exit_status = 1


class FlakyError(PopcornError):
    """A test failed and passed on equal machines; nothing worse was found."""

    exit_status = 4


def from_os_error(error: OSError) -> PopcornError:
    """Turn an operating system's error that nobody foresaw into one of ours."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"no space left on the disk{where}",
            hint="`popcorn doctor` shows the places that Popcorn writes to and what they take, `popcorn prune` makes "
            "room; POPCORN_CACHE, POPCORN_RUNS and XDG_RUNTIME_DIR move them elsewhere",
        )
    kind = HostMemoryError if error.errno == errno.ENOMEM else HostError
    return kind(f"{error.strerror or error}{where}", hint=_REMEDIES.get(error.errno or 0, ""))


_MOVED = "POPCORN_CACHE, POPCORN_RUNS and XDG_RUNTIME_DIR move what Popcorn writes elsewhere"
_REMEDIES = {
    errno.EROFS: f"the place is mounted read-only: mount it anew, or choose another: {_MOVED}",
    errno.EACCES: f"whose it is tells `ls -ld`; {_MOVED}",
    errno.EPERM: f"whose it is tells `ls -ld`; {_MOVED}",
    errno.ENOMEM: "the host has too little memory: end something, or use a smaller --machine or fewer kernels",
    errno.EFBIG: "a limit on the size of files is in force: `ulimit -f unlimited` lifts it",
    errno.EMFILE: "a limit on open files is in force: `ulimit -n 4096` raises it",
}
