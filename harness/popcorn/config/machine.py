# SPDX-License-Identifier: Apache-2.0
"""The machine: sockets, dies, cores, NUMA nodes, memory and devices.

A described machine follows the rules of QEMU's q35; a probed one carries what
its firmware said (``cpus``, and ``ram`` in each node).
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from popcorn import cpulist
from popcorn.config.sizes import GIB, MIB, SizeField
from popcorn.errors import UserError

# POPCORN_MAX_CPUS in the kernels' popcorn.h.
MAX_CPUS = 512
# Real-mode code, BIOS data and the like: it belongs to no kernel.
FIRST_MIB = MIB
# q35 keeps RAM below 2 GiB when there is much of it, and below 2.75 GiB when there is not.
Q35_MUCH_RAM = 0xB0000000
Q35_LOW_RAM_END = 0x80000000
Q35_HOLE_END = 4 * GIB
# The firmware keeps the ACPI tables at the end of the RAM below the hole.
Q35_FIRMWARE_TOP = 2 * MIB


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Model):
    """Physical addresses from start to end (end not included)."""

    start: SizeField
    end: SizeField

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.start < self.end:
            raise ValueError(f"the range {self.start:#x}-{self.end:#x} is empty or reversed")
        return self

    @property
    def size(self) -> int:
        return self.end - self.start


class Ram(Range):
    """A contiguous piece of RAM of one node."""

    node: int


class Cpu(_Model):
    """Where one CPU sits; sockets, dies and cores are counted across the machine."""

    apic_id: int = Field(ge=0)
    socket: int = Field(ge=0)
    die: int = Field(ge=0)
    core: int = Field(ge=0)


def _cpu_list(value: object) -> object:
    if isinstance(value, str):
        try:
            return cpulist.parse(value) if value.strip() else ()
        except UserError as error:
            raise ValueError(f"{error}; {error.hint}") from error
    return value


class Node(_Model):
    """A NUMA node: some CPUs and the memory close to them."""

    cpus: Annotated[tuple[int, ...], BeforeValidator(_cpu_list)]
    memory: SizeField = Field(ge=0, description="bytes")
    ram: tuple[Range, ...] | None = Field(None, description="where the memory is, if it is known")


class Device(_Model):
    """A PCI device that a kernel can own."""

    name: str
    id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$", description="vendor:device")


class Machine(_Model):
    """A computer, as seen by whoever cuts it into partitions.

    CPU numbers are those that SMP Linux gives on the whole machine.
    """

    name: str
    description: str = ""
    sockets: int = Field(ge=1)
    dies: int = Field(1, ge=1, description="in a socket")
    cores: int = Field(ge=1, description="in a die")
    threads: int = Field(1, ge=1, description="of a core")
    nodes: tuple[Node, ...] = Field(min_length=1)
    pci_hole: Range | None = Field(None, description="where no RAM can be; q35's rule if not given")
    devices: tuple[Device, ...] = ()
    cpus: tuple[Cpu, ...] | None = Field(None, description="if they are not in q35's regular order")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.nr_cpus > MAX_CPUS:
            raise ValueError(f"the machine has {self.nr_cpus} CPUs; Popcorn's shared memory has room for {MAX_CPUS}")
        counts = Counter(cpu for node in self.nodes for cpu in node.cpus)
        for cpu, times in sorted(counts.items()):
            if cpu >= self.nr_cpus:
                raise ValueError(f"a node has CPU {cpu}, but the machine's CPUs are 0-{self.nr_cpus - 1}")
            if times > 1:
                raise ValueError(f"CPU {cpu} is in {times} nodes; it can be in one")
        lost = set(range(self.nr_cpus)) - set(counts)
        if lost:
            raise ValueError(f"CPUs {cpulist.format(lost)} are in no node; add them to a node's cpus")
        for index, node in enumerate(self.nodes):
            if node.memory % (2 * MIB) and node.ram is None:
                raise ValueError(f"node {index} has {node.memory} bytes; it must be a multiple of 2 MiB")
        for kind, values in (
            ("APIC id", [cpu.apic_id for cpu in self.cpu_table]),
            ("device name", [device.name for device in self.devices]),
        ):
            twice = [value for value, times in Counter(values).items() if times > 1]
            if twice:
                raise ValueError(f"the {kind} {twice[0]} occurs twice")
        pieces = sorted(self.ram, key=lambda piece: piece.start)
        for left, right in itertools.pairwise(pieces):
            if right.start < left.end:
                raise ValueError(
                    f"the RAM of nodes {left.node} and {right.node} overlaps at {right.start:#x}-{left.end:#x}"
                )
        return self

    @property
    def nr_cpus(self) -> int:
        if self.cpus is not None:
            return len(self.cpus)
        return self.sockets * self.dies * self.cores * self.threads

    @property
    def memory_bytes(self) -> int:
        """The RAM that is built in, whoever may use it."""
        return sum(node.memory for node in self.nodes)

    @cached_property
    def cpu_table(self) -> tuple[Cpu, ...]:
        """Every CPU's place, by CPU number."""
        return self.cpus if self.cpus is not None else _regular_cpus(self)

    @cached_property
    def hole(self) -> Range:
        """The addresses below 4 GiB that belong to PCI devices."""
        if self.pci_hole is not None:
            return self.pci_hole
        start = Q35_LOW_RAM_END if self.memory_bytes >= Q35_MUCH_RAM else Q35_MUCH_RAM
        return Range(start=start, end=Q35_HOLE_END)

    @cached_property
    def ram(self) -> tuple[Ram, ...]:
        """The RAM above the first MiB that kernels may be given, by address; no piece spans nodes or the hole."""
        pieces = []
        for index, node in enumerate(self.nodes):
            for piece in node.ram if node.ram is not None else _q35_ram(self, index):
                start = max(piece.start, FIRST_MIB)
                if start < piece.end:
                    pieces.append(Ram(start=start, end=piece.end, node=index))
        return tuple(sorted(pieces, key=lambda piece: piece.start))

    def apic_id(self, cpu: int) -> int:
        """The local APIC id of a CPU. Ids have holes: each level of the topology is padded to a power of two."""
        return self.cpu_table[cpu].apic_id

    def node_of(self, cpu: int) -> int:
        """The NUMA node of a CPU."""
        return next(index for index, node in enumerate(self.nodes) if cpu in node.cpus)

    def socket_of(self, cpu: int) -> int:
        return self.cpu_table[cpu].socket

    def core_of(self, cpu: int) -> int:
        """The core of a CPU, counted across the machine: threads of one core share it."""
        return self.cpu_table[cpu].core


def _regular_cpus(machine: Machine) -> tuple[Cpu, ...]:
    thread_bits = (machine.threads - 1).bit_length()
    core_bits = (machine.cores - 1).bit_length()
    die_bits = (machine.dies - 1).bit_length()
    cpus = []
    for cpu in range(machine.nr_cpus):
        core, thread = divmod(cpu, machine.threads)
        die, core_in_die = divmod(core, machine.cores)
        socket, die_in_socket = divmod(die, machine.dies)
        apic_id = socket
        for part, bits in ((die_in_socket, die_bits), (core_in_die, core_bits), (thread, thread_bits)):
            apic_id = apic_id << bits | part
        cpus.append(Cpu(apic_id=apic_id, socket=socket, die=die, core=core))
    return tuple(cpus)


def _q35_ram(machine: Machine, index: int) -> tuple[Range, ...]:
    """Nodes follow one another; what reaches the hole goes on at 4 GiB."""
    hole = machine.hole
    begin = sum(node.memory for node in machine.nodes[:index])
    end = begin + machine.nodes[index].memory
    low_end = min(hole.start, machine.memory_bytes) - Q35_FIRMWARE_TOP
    pieces = []
    if begin < min(end, low_end):
        pieces.append(Range(start=begin, end=min(end, low_end)))
    if end > hole.start:
        above = hole.end - hole.start
        pieces.append(Range(start=max(begin, hole.start) + above, end=end + above))
    return tuple(pieces)
