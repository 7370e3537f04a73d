# SPDX-License-Identifier: Apache-2.0
"""The machines of this user, by name.

``runtime_dir()/machines/NAME/`` holds a machine's sockets and its record. Whoever runs
it holds a lock on ``machines/NAME.lock``, which the kernel drops when that process ends
however it ends: a record without a lock is of a machine that is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from popcorn.clock import RunClock
from popcorn.dirs import runs_dir, runtime_dir
from popcorn.errors import HostError, MachineLostError, UserError
from popcorn.files import write_atomic

DEFAULT_NAME = "default"
# In a run's folder: the plan of the machine, and what is to become it.
PLAN_FILE = "plan.json"
NEXT_PLAN_FILE = "plan-next.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_RECORD = "record.json"
INITRD = "initrd"
_FOUR_GIB = 1 << 32
# sizeof(struct sockaddr_un.sun_path), unix(7).
_SOCKET_PATH_LIMIT = 107
_GLANCE_S = 0.2

Status = Literal["starting", "up", "dead"]


@dataclass(frozen=True)
class Record:
    """What is known of a machine. Times are Unix time (by `clock`), addresses physical, sizes in bytes."""

    name: str
    status: Status
    run_dir: str
    supervisor_pid: int = 0
    qemu_pid: int = 0
    ssh_port: int = 0
    started: float = 0.0
    started_uptime: float = 0.0
    """The host's uptime (seconds) at ``started``: together they are the machine's clock."""
    ended: float = 0.0
    reason: str = ""
    tied: bool = False
    accel: str = ""
    machine: str = ""
    policy: str = ""
    kernels: tuple[int, ...] = ()
    header: str = ""
    region_start: int = 0
    region_size: int = 0
    hole_start: int = _FOUR_GIB
    nodes: tuple[tuple[int, int], ...] = field(default=())
    """File descriptor in the supervisor, and size, of each node's memory."""
    replanned: int = 0
    """How often the machine was cut anew."""
    keep_memory: bool = False
    """Whether memory is saved in the run's folder when QEMU ends by itself."""
    qemu_options: tuple[str, ...] = ()
    """Words that the user added to QEMU's command line."""
    restored_from: str = ""
    """The snapshot that it goes on from, as the user knows it; empty if it was booted."""
    saved: float = 0.0
    """When that was taken."""

    @property
    def directory(self) -> Path:
        return machines_dir() / self.name

    @property
    def clock(self) -> RunClock:
        """What the times of its run go by."""
        return RunClock(self.started, self.started_uptime)


def machines_dir() -> Path:
    """Where records and sockets are."""
    path = runtime_dir() / "machines"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def check_name(name: str) -> str:
    """
    Raises:
        UserError: no machine can be called that.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a machine",
            hint="use up to 32 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
        )
    return name


@dataclass(frozen=True)
class Claim:
    """The right to run a machine under a name; ``lock`` is an open descriptor to pass on or close."""

    name: str
    lock: int
    directory: Path


def require_free(name: str) -> None:
    """
    Raises:
        UserError: a machine of that name is up, or none can be called that.
        HostError: the sockets' paths would be too long.
    """
    if is_live(check_name(name)):
        raise _taken(name)
    _directory(name)


def _directory(name: str) -> Path:
    directory = machines_dir() / name
    longest = max(len(str(directory / socket)) for socket in ("control.sock", "monitor.sock"))
    if longest > _SOCKET_PATH_LIMIT:
        raise HostError(
            f"sockets in {directory} would have paths of {longest} bytes; Linux takes {_SOCKET_PATH_LIMIT}",
            hint="use a shorter name, or a shorter XDG_RUNTIME_DIR",
        )
    return directory


def claim(name: str) -> Claim:
    """Take a name that no running machine has; what a dead one left under it is removed.

    Raises:
        UserError: the name is taken or impossible.
        HostError: the sockets' paths would be too long.
    """
    check_name(name)
    directory = _directory(name)
    lock = os.open(_lock_path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _GLANCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Who only looks whether a machine is up holds it for a moment, too.
            if time.monotonic() > deadline:
                os.close(lock)
                raise _taken(name) from None
            time.sleep(_GLANCE_S / 20)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    _sweep()
    return Claim(name, lock, directory)


def _sweep() -> None:
    """Remove what commands and supervisors left that were killed: an initrd is large, and may lie in memory."""
    for directory in machines_dir().iterdir():
        if not directory.is_dir() or is_live(directory.name):
            continue
        if (directory / _RECORD).exists():
            (directory / INITRD).unlink(missing_ok=True)
            continue
        with suppress(OSError), open(_lock_path(directory.name), "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (directory / _RECORD).exists():
                shutil.rmtree(directory, ignore_errors=True)


def _taken(name: str) -> UserError:
    return UserError(
        f"a machine named {name!r} is up already",
        hint=f"end it with `popcorn down --name {name}`, or give this one another --name",
    )


def is_live(name: str) -> bool:
    """Whether somebody runs a machine of that name."""
    try:
        lock = os.open(_lock_path(name), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write_record(record: Record) -> None:
    """Write down a machine's state, for its supervisor."""
    write_atomic(record.directory / _RECORD, json.dumps(asdict(record), indent=1), mode=0o600)


def records() -> list[Record]:
    """All machines by name; one whose supervisor vanished is told as dead."""
    found = (read_record(path.parent.name) for path in sorted(machines_dir().glob(f"*/{_RECORD}")))
    return [record for record in found if record is not None]


def read_record(name: str) -> Record | None:
    """A machine's record, or None when there is none (or it is damaged)."""
    path = machines_dir() / name / _RECORD
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields["kernels"] = tuple(fields["kernels"])
        fields["nodes"] = tuple((int(fd), int(size)) for fd, size in fields["nodes"])
        fields["qemu_options"] = tuple(fields.get("qemu_options", ()))
        record = Record(**fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if record.status != "dead" and not is_live(name):
        return replace(record, status="dead", reason="its supervisor was killed, and QEMU with it")
    return record


def find(name: str) -> Record:
    """A machine's record.

    Raises:
        UserError: there is no such machine.
    """
    record = read_record(check_name(name))
    if record is None:
        others = ", ".join(known.name for known in records())
        raise UserError(
            f"there is no machine named {name!r}" + (f" (there are: {others})" if others else ""),
            hint="`popcorn up` starts one, `popcorn ls` lists them",
        )
    return record


def find_up(name: str) -> Record:
    """The record of a machine that is not dead.

    Raises:
        UserError: there is no such machine.
        MachineLostError: it has died.
    """
    record = find(name)
    if record.status == "dead":
        raise MachineLostError(
            f"the machine {name!r} has died: {record.reason or 'nobody knows why'}",
            hint=f"its last words: `popcorn log --name {name}`; start it anew with `popcorn up --name {name}`",
        )
    return record


def forget(name: str) -> None:
    """Remove what a machine that has ended left behind."""
    if not is_live(name):
        discard(name)


def discard(name: str) -> None:
    """Remove a machine's record and sockets; for whoever holds its lock."""
    shutil.rmtree(machines_dir() / name, ignore_errors=True)


def remember_run(name: str, run_dir: Path) -> None:
    """Make ``run_dir`` the last run of a machine, for `last_run`."""
    link = runs_dir() / "last" / name
    link.parent.mkdir(exist_ok=True)
    fresh = link.with_name(f".{name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(run_dir)
    fresh.replace(link)


def last_run(name: str) -> Path:
    """The folder of the last run of a machine, whether it still runs or not.

    Raises:
        UserError: there is none.
    """
    link = runs_dir() / "last" / check_name(name)
    if not link.is_dir():
        raise UserError(f"nothing was recorded of a machine named {name!r}", hint="`popcorn up` records each run")
    return link.resolve()


def _lock_path(name: str) -> Path:
    return machines_dir() / f"{name}.lock"
