# SPDX-License-Identifier: Apache-2.0
"""What a system and a workload are to an experiment.

A **system** is a way to boot the cores of a machine: Popcorn, SMP Linux, virtual machines. A **workload** is
something that is run on some of them and measured. Neither knows the other: a workload is told which kernels have
how many cores for it (`Share`), and starts its processes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from popcorn.config.machine import Machine as MachineConfig
from popcorn.guest.finished import Finished
from popcorn.guest.several import TIMED_OUT
from popcorn.image.npbtree import TreeProgram
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.run.manifest import Manifest
from popcorn.run.results import Measurement, Status

Files = Mapping[str, tuple[bytes, int]]
"""Guest path to (content, permissions)."""

State = str
"""What differs between boots of one system, e.g. how many CPUs are active; equal states share a boot."""


# A shell's status of a command that signal N ended is this and N.
_SIGNALLED = 128


@dataclass(frozen=True)
class Kernel:
    """A kernel of a system, as a place for processes."""

    id: int
    """Unique in its system."""
    cpus: int
    """How many are active."""
    memory_bytes: int
    address: str
    """The IPv4 address by which the system's other kernels reach it."""


@dataclass(frozen=True)
class Share:
    """How many cores of a kernel a workload may use; it starts as many processes or threads there."""

    kernel: Kernel
    cores: int


@dataclass(frozen=True)
class Setting:
    """What all systems of an experiment have in common."""

    name: str
    """Of machines, or what their names begin with."""
    machine: MachineConfig
    series: str
    most_cores: int
    """The most cores that any trial uses."""
    client: bool = False
    """Whether there is a machine beside it that asks its kernels."""


class Client(Protocol):
    """A machine of its own, on one network with a system."""

    def address(self, kernel: Kernel) -> str:
        """By which it reaches a kernel."""

    def run(self, argv: Sequence[str], timeout_s: float) -> Finished:
        """Run a command in it; errors as of `Machine.exec`."""


class Booted(Protocol):
    """A system that is up."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """In the order in which they are filled."""

    @property
    def machines(self) -> Sequence[Machine]:
        """The emulated machines behind it, for workloads that are made for one kind of system."""

    @property
    def switch(self) -> str | None:
        """The network interface by which kernels reach each other; None for a single kernel."""

    @property
    def client(self) -> Client | None:
        """The machine beside it, if the experiment has one."""

    @property
    def manifest(self) -> Manifest:
        """What was booted."""

    def run(self, commands: Mapping[int, Sequence[str]], timeout_s: float) -> dict[int, Finished]:
        """Run a command in each of some kernels, side by side.

        A kernel that cannot be reached gets status 125, one that took too long 124, as of `run_in_several`.

        Args:
            commands: the exact words, by the kernel's id.

        Raises:
            MachineLostError: a machine is gone.
        """

    def put(self, kernel: int, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in a kernel.

        Raises:
            GuestError: it cannot be written.
        """

    def host_cpu_s(self) -> float:
        """CPU time that all its emulated machines have taken from the host."""

    def interrupt(self) -> None:
        """Cut off all commands that run; new ones can be run afterwards."""

    def alive(self) -> bool:
        """Whether all its machines are."""

    def counting(self) -> Callable[[Sequence[int]], int | None]:
        """Begin to count instructions.

        What it gives tells, when a workload is over, how many all CPUs of some kernels began between the last two
        moments that each of the kernels marked since; None if one did not, or nothing counts.
        """


class System(Protocol):
    """A way to boot the cores of a machine. Asking it costs nothing; only `boot` does anything."""

    @property
    def name(self) -> str:
        """In descriptions and results."""

    @property
    def title(self) -> str:
        """In figures."""

    @property
    def messages(self) -> bool:
        """Whether its kernels can send each other Popcorn's messages."""

    @property
    def machine_names(self) -> Sequence[str]:
        """Of all machines that a boot of it starts; none of them may be up before."""

    def state(self, cores: int, together: bool) -> State:
        """What must be booted for a workload.

        Args:
            together: whether the workload needs all its cores in one kernel.
        """

    def kernels(self, state: State) -> Sequence[Kernel]:
        """What will be there, in the order in which it is filled."""

    def host_bytes(self, state: State) -> int:
        """About how much of the host's memory it takes when it is up and idle."""

    def estimate_s(self, state: State) -> float:
        """About how long a boot takes, on two cores without KVM."""

    def boot(
        self, state: State, accel: Accel, files: Files, into: Path, *, counting: bool = False
    ) -> AbstractContextManager[Booted]:
        """Boot it; it ends with the block.

        Args:
            files: what the workloads want in every kernel.
            into: folder for consoles, events and manifest.
            counting: with instructions counted, which takes the emulator, and some times as long.

        Raises:
            PopcornError: as `popcorn.machine.boot.up`.
        """


@dataclass(frozen=True)
class Needs:
    """What a workload wants of a system."""

    together: bool = False
    """All its cores in one kernel: threads share memory."""
    kernels: int = 1
    """At least so many kernels."""
    messages: bool = False
    """Popcorn's messages between kernels."""
    marks: bool = False
    """Whether it marks its beginning and its end in each of its kernels, so that instructions can be counted."""
    client: bool = False
    """A machine beside the system, to ask its kernels from."""
    programs: tuple[str, ...] = ()
    """Programs in every kernel, by the names of `popcorn.experiment.programs`."""
    trees: tuple[TreeProgram, ...] = ()
    """And those of a user's own NPB tree."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. Only one that is ``ok`` has measurements with values."""

    status: Status
    measurements: tuple[Measurement, ...] = ()
    raw: bytes = b""
    """All that was said, for the run's folder."""
    reason: str = ""
    """Why there is no value."""


def failure(exit_status: int) -> Status:
    """What became of a workload whose command ended with a status that is not 0."""
    if exit_status == TIMED_OUT:
        return "hung"
    return "killed" if exit_status > _SIGNALLED else "failed"


class Workload(Protocol):
    """Something that is run and measured."""

    @property
    def name(self) -> str:
        """In results; unique in its experiment."""

    @property
    def group(self) -> str:
        """What stands in one figure, or on one line."""

    @property
    def parameter(self) -> int | None:
        """Where it stands on the x axis when that is not the number of cores, e.g. bytes of a message."""

    @property
    def metric(self) -> str:
        """The metric that is drawn and compared."""

    @property
    def unit(self) -> str:
        """Of that metric."""

    @property
    def less_is_better(self) -> bool:
        """Whether it is a time rather than a rate."""

    @property
    def needs(self) -> Needs: ...

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        """Of the experiment's core counts, those that it is measured with; a fixed one if it has no choice."""

    def memory_bytes(self, cores: int, total: int) -> int:
        """What it takes in one kernel of which it has so many cores, of so many in all kernels."""

    def estimate_s(self, cores: int) -> float:
        """About how long a trial takes, on two cores without KVM."""

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        """Once a boot, before its first trial; untimed.

        Args:
            cores: all core counts that it will be measured with in this boot.
        """

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        """One trial.

        Args:
            shares: the kernels and how many cores of each; as many cores as the trial has.
            timeout_s: a workload that takes longer hangs.

        Raises:
            GuestError: a kernel did not do its part.
            MachineLostError: a machine is gone.
        """
