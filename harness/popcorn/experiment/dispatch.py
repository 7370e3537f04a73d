# SPDX-License-Identifier: Apache-2.0
"""Spreading the boot jobs of a run over hosts by Dask distributed.

A job is a task; a worker has one thread, and so one job at a time. Events come over a queue of the scheduler as they
happen, so that what has ended is recorded whatever becomes of the worker. When one dies, Dask gives its job to another,
which takes all its trials anew: those that were told before are not told again.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popcorn.errors import HostError, PopcornError, UserError
from popcorn.experiment.executor import BootBegun, BootDone, Event, new_folder
from popcorn.experiment.ready import Ready
from popcorn.experiment.schedule import BootJob, Trial
from popcorn.experiment.worker import Order, Recorded, carry_out, unpack
from popcorn.machine.qemu import Accel
from popcorn.run.manifest import code_commit
from popcorn.run.results import Kind

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 10.0
_LOOK_S = 0.3


@dataclass(frozen=True)
class DaskExecutor:
    """Fits `executor.Executor`."""

    ready: Ready
    accel: Accel
    boots_dir: Path
    address: str
    """Of the scheduler."""

    def events(self, jobs: Sequence[BootJob]) -> Iterator[Event]:
        from distributed import Queue, Variable

        if not jobs:
            return
        with connect(self.address) as client:
            name = f"popcorn-{uuid.uuid4().hex}"
            inbox, stop = Queue(name, client=client), Variable(name, client=client)
            stop.set(False)
            futures = [
                client.submit(_work, pickle.dumps(self._order(job)), name, key=f"{name}-{job.number}", pure=False)
                for job in jobs
            ]
            try:
                yield from self._heard(inbox, futures)
            finally:
                # Workers cannot be interrupted; they look at this after each trial.
                stop.set(True)
                client.cancel(futures)

    def _order(self, job: BootJob) -> Order:
        ready = self.ready
        return Order(ready.source, ready.wanted, ready.setting.machine, self.accel, job, code_commit())

    def _heard(self, inbox: Any, futures: Sequence[Any]) -> Iterator[Event]:
        sorter = Sorter(self.boots_dir)
        while True:
            # Looked at before the queue: what a task said is there before it has ended.
            ended = all(future.done() for future in futures)
            # Waiting for it by `get` has the scheduler print a traceback each time that nothing came.
            if inbox.qsize():
                attempt, event = pickle.loads(inbox.get())
                if (known := sorter.sort(attempt, event)) is not None:
                    yield known
                continue
            for future in futures:
                if future.status == "error":
                    raise _error(future)
            if ended:
                return
            time.sleep(_LOOK_S)


@dataclass
class Sorter:
    """Turns what attempts at jobs tell into the events of one run: each trial once, each boot in a folder of its own
    here."""

    boots_dir: Path
    folders: dict[tuple[str, str], str] = field(default_factory=dict)
    """Attempt and its folder, to the folder here."""
    seen: set[tuple[Kind, Trial]] = field(default_factory=set)

    def sort(self, attempt: str, event: Event | Recorded) -> Event | None:
        """An event as it is here; None for what is no news."""
        if isinstance(event, BootBegun):
            return event
        if isinstance(event, Recorded):
            if (here := self.folders.get((attempt, event.folder))) is not None:
                unpack(event.content, self.boots_dir / here)
            return None
        if isinstance(event, BootDone):
            made = new_folder(self.boots_dir, event.job)
            made.mkdir(parents=True)
            self.folders[attempt, event.folder] = made.name
            return replace(event, folder=made.name)
        event = replace(event, folder=self.folders[attempt, event.folder])
        if event.kind == event.job.kind:
            if (event.kind, event.trial) in self.seen:
                return None
            self.seen.add((event.kind, event.trial))
        return event


def connect(address: str) -> Client:
    """A client of a scheduler that has workers.

    Raises:
        UserError: it is no address, nobody answers there, or no worker is there.
    """
    from distributed import Client
    from distributed.comm.addressing import get_address_host

    try:
        # Looked at first: of a client that could not be made the library complains again as it is thrown away.
        get_address_host(address)
    except ValueError as error:
        raise UserError(
            f"--scheduler {address}: no address: {error}", hint="write e.g. --scheduler tcp://HOST:8786"
        ) from error
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--scheduler {address}: nobody answers: {error}",
            hint="`popcorn worker --serve ADDRESS` starts a scheduler",
        ) from error
    if not client.scheduler_info()["workers"]:
        client.close()
        raise UserError(f"the scheduler at {address} has no workers", hint=f"on each host: popcorn worker {address}")
    return client


def common_accel(address: str, series: str) -> Accel:
    """KVM if it boots a series on the hosts of all workers. Errors as for `connect`, and what building it raises."""
    with connect(address) as client:
        return "kvm" if all(client.run(_boots_with_kvm, series).values()) else "tcg"


def _boots_with_kvm(series: str) -> bool:
    from popcorn.build.kernel import build_kernel
    from popcorn.machine import kvm

    return kvm.probe(build_kernel(series=series).bzimage).usable


def _work(order: bytes, name: str) -> None:
    """The task, in a worker."""
    from distributed import Queue, Variable, get_client

    client = get_client()
    inbox, stop = Queue(name, client=client), Variable(name, client=client)
    attempt = uuid.uuid4().hex
    carry_out(
        pickle.loads(order),
        lambda event: inbox.put(pickle.dumps((attempt, event))),
        lambda: bool(stop.get(timeout=_CONNECT_S)),
    )


def _error(future: Any) -> PopcornError:
    from distributed import KilledWorker

    error = future.exception()
    if isinstance(error, PopcornError):
        return error
    if isinstance(error, KilledWorker):
        return HostError(f"workers died at a job, one after the other: {error}", hint="look at their output")
    return HostError(f"a worker failed: {type(error).__name__}: {error}", hint="look at its output")
