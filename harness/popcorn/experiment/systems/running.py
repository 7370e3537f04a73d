# SPDX-License-Identifier: Apache-2.0
"""Emulated machines that are up, and running commands in them; for all systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from popcorn.experiment.protocols import Kernel
from popcorn.guest.finished import Finished
from popcorn.guest.run import run_in_several
from popcorn.machine.instructions import InstructionFile, between_marks
from popcorn.machine.machine import Machine
from popcorn.run.manifest import Manifest
from popcorn.run.measure import qemu_seconds


@dataclass(frozen=True)
class Member:
    """Where a kernel of a system is: in which machine, and its id there."""

    machine: Machine
    id: int


@dataclass(frozen=True)
class ClientMachine:
    """A machine beside a system; fits `protocols.Client`."""

    machine: Machine
    addresses: Mapping[int, str]
    """By the kernel's id in the system."""

    def address(self, kernel: Kernel) -> str:
        return self.addresses[kernel.id]

    def run(self, argv: Sequence[str], timeout_s: float) -> Finished:
        return self.machine.exec(0, argv, timeout_s=timeout_s)


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
            found = run_in_several(machine.connections, argv, list(by_id), timeout_s=timeout_s)
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
