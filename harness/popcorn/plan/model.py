# SPDX-License-Identifier: Apache-2.0
"""What a plan is: partitions of a machine that do not overlap."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from popcorn.config.machine import Machine
from popcorn.config.sizes import SizeField
from popcorn.errors import UserError


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Model):
    """Contiguous physical memory of one node; start and size in bytes."""

    start: SizeField = Field(ge=0)
    size: SizeField = Field(gt=0)
    node: int = Field(ge=0)

    @property
    def end(self) -> int:
        """The first address behind the window."""
        return self.start + self.size

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


class Partition(_Model):
    """What one kernel owns."""

    id: int = Field(ge=0, description="the smallest of its CPUs")
    cpus: tuple[int, ...] = Field(min_length=1)
    apic_ids: tuple[int, ...]
    memory: tuple[Window, ...]
    devices: tuple[str, ...] = ()
    cmdline: str

    @property
    def is_primary(self) -> bool:
        """Whether this is the kernel that the firmware boots."""
        return 0 in self.cpus

    @property
    def memory_bytes(self) -> int:
        return sum(window.size for window in self.memory)


class Hotplug(_Model):
    """What a primary boots with that gives CPUs and memory away later, and takes them back."""

    cpus: tuple[int, ...] = Field(min_length=1, description="all that it can ever have")
    memory: tuple[Window, ...] = Field(min_length=1, description="what it keeps")


class Plan(_Model):
    """A machine cut into partitions, one kernel each."""

    machine: Machine
    policy: str
    region: Window = Field(description="memory that all kernels share; no kernel owns it")
    partitions: tuple[Partition, ...] = Field(min_length=1)
    hotplug: Hotplug | None = Field(default=None, description="None: the primary boots with its partition and keeps it")

    @cached_property
    def primary(self) -> Partition:
        return next(partition for partition in self.partitions if partition.is_primary)

    def with_parameters(self, words: Mapping[int, str]) -> Plan:
        """The plan with more words at the end of some kernels' command lines."""
        longer = [
            one.model_copy(update={"cmdline": f"{one.cmdline} {words[one.id]}"}) if words.get(one.id) else one
            for one in self.partitions
        ]
        return self.with_partitions(longer)

    def with_partitions(self, partitions: Iterable[Partition], policy: str | None = None) -> Plan:
        """The machine cut otherwise."""
        # A copy would have what is cached as well.
        return Plan(
            machine=self.machine,
            policy=policy or self.policy,
            region=self.region,
            partitions=tuple(partitions),
            hotplug=self.hotplug,
        )

    def booted_with(self, partition: Partition) -> tuple[tuple[int, ...], tuple[Window, ...]]:
        """The CPUs and the memory that a kernel has when it boots, as its command line says."""
        if partition.is_primary and self.hotplug is not None:
            return self.hotplug.cpus, self.hotplug.memory
        return partition.cpus, partition.memory

    @cached_property
    def secondaries(self) -> tuple[Partition, ...]:
        """All but the primary, by id."""
        return tuple(partition for partition in self.partitions if not partition.is_primary)

    @property
    def nr_kernels(self) -> int:
        """Slots in the shared region: any CPU number can be a kernel's id."""
        return self.machine.nr_cpus

    def partition(self, kernel_id: int) -> Partition:
        """The partition of a kernel.

        Raises:
            UserError: the plan has no such kernel.
        """
        for partition in self.partitions:
            if partition.id == kernel_id:
                return partition
        ids = ", ".join(str(partition.id) for partition in self.partitions)
        raise UserError(f"there is no kernel {kernel_id} in this plan", hint=f"its kernels are {ids}")

    def to_json(self) -> str:
        """The plan as JSON text that `popcorn.plan.read_plan` reads; the same plan gives the same text."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
