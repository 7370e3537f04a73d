# SPDX-License-Identifier: Apache-2.0
"""Booting emulated machines inside a run's folder, and running commands in them; for all systems."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from popcorn.experiment.protocols import Files, Kernel
from popcorn.guest.finished import Finished
from popcorn.guest.run import run_in_several
from popcorn.machine.instructions import InstructionFile, between_marks
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.plan.model import Plan
from popcorn.run.manifest import Manifest, describe
from popcorn.run.measure import qemu_seconds

if TYPE_CHECKING:
    from popcorn.experiment.systems.wire import ClientMachine


@dataclass(frozen=True)
class Member:
    """Where a kernel of a system is: in which machine, and its id there."""

    machine: Machine
    id: int


@dataclass(frozen=True, eq=False)
class Running:
    """One or several machines as one system that is up; fits `protocols.Booted`."""

    kernels: Sequence[Kernel]
    members: Mapping[int, Member]
    """By the kernel's id in the system."""
    manifest: Manifest
    switch: str | None
    client: ClientMachine | None = None
    counts: Mapping[str, InstructionFile] = field(default_factory=dict)
    """By the machine's name, if instructions are counted."""

    @property
    def machines(self) -> Sequence[Machine]:
        return list({id(member.machine): member.machine for member in self.members.values()}.values())

    def run(self, commands: Mapping[int, Sequence[str]], timeout_s: float) -> dict[int, Finished]:
        # Equal commands in one machine go there at once.
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for kernel, argv in commands.items():
            groups.setdefault((id(self.members[kernel].machine), tuple(argv)), []).append(kernel)
        for machine in self.machines:
            _ = machine.connections  # made here, once, and not by each thread

        def work(argv: Sequence[str], kernels: Sequence[int]) -> dict[int, Finished]:
            machine = self.members[kernels[0]].machine
            by_id = {self.members[kernel].id: kernel for kernel in kernels}
            found = run_in_several(machine, argv, list(by_id), timeout_s=timeout_s)
            return {by_id[id]: done for id, done in found}

        if len(groups) == 1:
            ((_, argv), kernels), *_ = groups.items()
            return work(argv, kernels)
        pool = ThreadPoolExecutor(len(groups))
        try:
            futures = [pool.submit(work, argv, kernels) for (_, argv), kernels in groups.items()]
            answers = {kernel: done for future in futures for kernel, done in future.result().items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self.interrupt()
            raise
        pool.shutdown()
        return {kernel: answers[kernel] for kernel in commands}

    def put(self, kernel: int, content: bytes, path: str, mode: int = 0o644) -> None:
        member = self.members[kernel]
        member.machine.ssh(member.id).put(content, path, mode)

    def host_cpu_s(self) -> float:
        return sum(map(qemu_seconds, self._all))

    def interrupt(self) -> None:
        for machine in self._all:
            machine.connections.close()

    def alive(self) -> bool:
        return all(machine.alive() for machine in self._all)

    def counting(self) -> Callable[[Sequence[int]], int | None]:
        before = {name: file.marked for name, file in self.counts.items()}

        def found(kernels: Sequence[int]) -> int | None:
            return _total([self._instructions(self.members[kernel], before) for kernel in kernels])

        return found

    def _instructions(self, member: Member, since: Mapping[str, int]) -> int | None:
        name = member.machine.name
        if name not in self.counts:
            return None
        partition = next(one for one in member.machine.plan.partitions if one.id == member.id)
        return between_marks(self.counts[name].marks(since[name]), partition.cpus)

    @property
    def _all(self) -> Sequence[Machine]:
        return [*self.machines, *([self.client.machine] if self.client else [])]


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


@contextlib.contextmanager
def one_machine(
    plan: Plan,
    *,
    name: str,
    series: str,
    accel: Accel,
    files: Files,
    into: Path,
    qemu_options: Sequence[str] = (),
    counts: dict[str, InstructionFile] | None = None,
) -> Iterator[tuple[Machine, Manifest]]:
    """Boot a plan and wait for its kernels; it ends with the block. Counts as for `booting`.

    Raises:
        PopcornError: as `popcorn.machine.boot.up`.
    """
    with (
        booting(plan, series=series, accel=accel, files=files, counts=counts) as (start_one, manifest),
        start_one(name, into, qemu_options) as machine,
    ):
        await_all([machine])
        yield machine, manifest


Start = Callable[[str, Path, Sequence[str]], Machine]
"""Starts a machine under a name, recorded in a folder, with further words for QEMU."""


@contextlib.contextmanager
def booting(
    plan: Plan, *, series: str, accel: Accel, files: Files, counts: dict[str, InstructionFile] | None = None
) -> Iterator[tuple[Start, Manifest]]:
    """What boots a plan, built and put together: how to start a machine, and its manifest.

    Args:
        counts: gets the instruction counters of each machine that is started; None if they are not counted.
    """
    from popcorn.build.kernel import build_kernel
    from popcorn.image import build_image, overlay
    from popcorn.machine.assemble import kernel_files
    from popcorn.machine.boot import start

    with tempfile.TemporaryDirectory(prefix="popcorn-run-") as place:
        secondary = None
        if files and plan.secondaries:
            # For this boot alone: idle secondaries of others do not carry it.
            image = build_image("secondary", kernel=build_kernel(series=series))
            secondary = Path(place) / "secondary.cpio"
            secondary.write_bytes(image.cpio.read_bytes() + overlay(files))
        kernel, boot_files = kernel_files(plan, series=series, secondary_initrd=secondary, more_files=files)

        def start_one(name: str, into: Path, qemu_options: Sequence[str]) -> Machine:
            words = tuple(qemu_options)
            if counts is not None:
                counts[name] = InstructionFile.make(Path(place) / f"{name}.counts", plan.machine.nr_cpus)
                words += counts[name].qemu_options
            return start(plan, boot_files, name=name, accel=accel, tied=True, run_dir=into, qemu_options=words)

        yield start_one, describe(plan, kernel, accel, boot_files.kernels)


def await_all(machines: Sequence[Machine]) -> None:
    """Wait until the kernels of machines are up that were started side by side.

    Raises:
        PopcornError: as `popcorn.machine.arrival.await_kernels`.
    """
    from popcorn.machine.arrival import await_kernels

    for machine in machines:
        await_kernels(machine)
