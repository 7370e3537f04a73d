# SPDX-License-Identifier: Apache-2.0
"""The initrd of a machine: several cpio archives in one file, as Linux takes them.

See Documentation/driver-api/early-userspace/buffer-format.rst: archives follow one another, zero bytes between them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from popcorn import cpulist
from popcorn.plan.model import Partition, Plan

_ALIGNMENT = 512


def concatenate(pieces: Sequence[Path | bytes], target: Path) -> None:
    """Write archives one behind the other into a file.

    Raises:
        OSError: a piece cannot be read or the file not be written.
    """
    with target.open("wb", buffering=0) as out:
        for piece in pieces:
            if isinstance(piece, bytes):
                out.write(piece)
            else:
                _append(piece, out.fileno())
            out.seek(-out.tell() % _ALIGNMENT, os.SEEK_CUR)
        out.truncate()


def _append(source: Path, target: int) -> None:
    with source.open("rb") as archive:
        remaining = os.fstat(archive.fileno()).st_size
        while remaining:
            copied = os.sendfile(target, archive.fileno(), None, remaining)
            if not copied:
                raise OSError(f"{source} shrank while it was read")
            remaining -= copied


def launch_files(plan: Plan) -> dict[str, tuple[bytes, int]]:
    """What the primary needs to know about the others: one file a kernel, and the list of those to start at boot."""
    files = {
        f"/etc/popcorn/kernels/{partition.id}.conf": (_kernel_conf(partition).encode(), 0o644)
        for partition in plan.secondaries
    }
    ids = "".join(f"{partition.id}\n" for partition in plan.secondaries)
    return {**files, "/etc/popcorn/launch": (ids.encode(), 0o644)}


def _kernel_conf(partition: Partition) -> str:
    fields = {
        "ID": str(partition.id),
        "CPUS": cpulist.format(partition.cpus),
        "ADDRESS": ",".join(f"{window.start:#x}+{window.size:#x}" for window in partition.memory),
        "CMDLINE": partition.cmdline,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in fields.items())
