# SPDX-License-Identifier: Apache-2.0
"""What a worker on some host does: take the trials of one boot job, tell each event at once, and hand over what the
boots recorded."""

from __future__ import annotations

import io
import os
import platform
import tarfile
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from popcorn.config import Machine
from popcorn.errors import UserError
from popcorn.experiment.description import Source
from popcorn.experiment.executor import Event, LocalExecutor
from popcorn.experiment.ready import Wanted, get_ready
from popcorn.experiment.schedule import BootJob
from popcorn.machine.qemu import Accel
from popcorn.run.manifest import code_commit


@dataclass(frozen=True)
class Order:
    """A boot job with all that a worker must know of its run."""

    source: Source
    wanted: Wanted
    machine: Machine
    accel: Accel
    job: BootJob
    commit: str
    """Of the code that gives the order."""


@dataclass(frozen=True)
class Recorded:
    """The folder of a boot, packed."""

    folder: str
    content: bytes
    """A tar archive."""


def carry_out(order: Order, tell: Callable[[Event | Recorded], None], stopped: Callable[[], bool]) -> None:
    """Take the trials of an order.

    Args:
        tell: called with each event as it happens; folders of boots are those of this worker.
        stopped: asked after each event; machines end when it says so.

    Raises:
        UserError: this host has other code.
        PopcornError: a system could not be booted.
    """
    if code_commit() != order.commit:
        raise UserError(
            f"the worker on {platform.node()} has commit {code_commit() or 'unknown'} of Popcorn, and the run has "
            f"{order.commit or 'unknown'}",
            hint="give all hosts the same one",
        )
    # Several workers of a host have machines of their own.
    wanted = replace(order.wanted, name=f"{order.wanted.name}-{os.getpid()}")
    ready = get_ready(order.source, wanted, order.machine)
    with tempfile.TemporaryDirectory(prefix="popcorn-work-") as place:
        boots = Path(place)
        # Closed here, so that machines have ended and all is recorded when it is packed.
        with closing(_closable(LocalExecutor(ready, order.accel, boots), order.job)) as events:
            for event in events:
                tell(event)
                if stopped():
                    break
        for folder in sorted(boots.iterdir()):
            tell(Recorded(folder.name, pack(folder)))


def _closable(executor: LocalExecutor, job: BootJob) -> Generator[Event, None, None]:
    yield from executor.events([job])


def pack(folder: Path) -> bytes:
    """A folder as an archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return out.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """The inverse of `pack`; nothing gets out of the folder."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        archive.extractall(folder, filter="data")
