# SPDX-License-Identifier: Apache-2.0
"""Plans that a person wrote: what follows from the rest may be left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from popcorn import cpulist
from popcorn.config.machine import Machine
from popcorn.config.machines import load_machine
from popcorn.config.sizes import SizeField, format_size
from popcorn.config.toml import model_error
from popcorn.errors import UserError
from popcorn.plan.cmdline import cmdline, plan_words
from popcorn.plan.memory import BLOCK, region_size
from popcorn.plan.model import Hotplug, Partition, Plan, Window
from popcorn.plan.policy import SMP


def _cpus(value: object) -> object:
    if isinstance(value, str):
        try:
            return cpulist.parse(value)
        except UserError as error:
            raise ValueError(f"{error}; {error.hint}") from error
    return value


class _Draft(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowDraft(_Draft):
    start: SizeField = Field(ge=0)
    size: SizeField = Field(gt=0)
    node: int | None = Field(None, ge=0)


class PartitionDraft(_Draft):
    id: int | None = Field(None, ge=0)
    cpus: Annotated[tuple[int, ...], BeforeValidator(_cpus)] = Field(min_length=1)
    apic_ids: tuple[int, ...] | None = None
    memory: tuple[WindowDraft, ...]
    devices: tuple[str, ...] = ()
    cmdline: str | None = None


class HotplugDraft(_Draft):
    cpus: Annotated[tuple[int, ...], BeforeValidator(_cpus)] = Field(min_length=1)
    memory: tuple[WindowDraft, ...] = Field(min_length=1)


class PlanDraft(_Draft):
    machine: Machine
    policy: str = "explicit"
    region: WindowDraft | None = None
    hotplug: HotplugDraft | None = None
    partitions: tuple[PartitionDraft, ...] = Field(min_length=1)


def read_plan(text: str, where: str = "the plan") -> Plan:
    """The plan in a JSON text; ``where`` is what errors call it.

    What follows from the rest may be left out: APIC ids, nodes, the shared region, command
    lines. The machine may be a name. Whether the plan is a possible one, `validate` tells.

    Raises:
        UserError: the text is no JSON, or no plan.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: this is no JSON: {error}", hint="`popcorn plan --json` writes a plan") from error
    try:
        draft = PlanDraft.model_validate(_with_machine(document))
    except ValidationError as error:
        raise model_error(error, PlanDraft, where) from error
    return complete(draft)


def complete(draft: PlanDraft) -> Plan:
    """Fill in what was left out."""
    machine = draft.machine
    memory = [[_window(machine, window) for window in partition.memory] for partition in draft.partitions]
    region = (
        _window(machine, draft.region)
        if draft.region is not None
        else _free_place(machine, [window for windows in memory for window in windows])
    )
    hotplug = None
    if draft.hotplug is not None:
        kept = tuple(_window(machine, window) for window in draft.hotplug.memory)
        hotplug = Hotplug(cpus=tuple(sorted(draft.hotplug.cpus)), memory=kept)
    partitions = []
    for partition, windows in zip(draft.partitions, memory, strict=True):
        cpus = tuple(sorted(partition.cpus))
        for cpu in cpus:
            if cpu >= machine.nr_cpus:
                raise UserError(
                    f"kernel {cpus[0]} is given CPU {cpu}, which machine {machine.name} does not have",
                    hint=f"its CPUs are 0-{machine.nr_cpus - 1}",
                )
        first_cpus, first_memory = cpus, tuple(windows)
        if hotplug is not None and 0 in cpus:
            first_cpus, first_memory = hotplug.cpus, hotplug.memory
        words = plan_words(machine, first_cpus, first_memory, partition.devices, region, smp=draft.policy == SMP)
        made = cmdline(
            words, first_memory, partition.devices, primary=0 in cpus, hotplug=hotplug is not None and 0 in cpus
        )
        partitions.append(
            Partition(
                id=min(cpus) if partition.id is None else partition.id,
                cpus=cpus,
                apic_ids=partition.apic_ids or tuple(machine.apic_id(cpu) for cpu in cpus),
                memory=tuple(windows),
                devices=partition.devices,
                cmdline=partition.cmdline or made,
            )
        )
    partitions.sort(key=lambda partition: partition.id)
    return Plan(machine=machine, policy=draft.policy, region=region, partitions=tuple(partitions), hotplug=hotplug)


def _window(machine: Machine, draft: WindowDraft) -> Window:
    node = draft.node
    if node is None:
        node = next((piece.node for piece in machine.ram if piece.start <= draft.start < piece.end), 0)
    return Window(start=draft.start, size=draft.size, node=node)


def _free_place(machine: Machine, taken: Sequence[Window]) -> Window:
    """The highest place below the PCI hole where the shared region fits between the windows."""
    size = region_size(machine.nr_cpus)
    low_pieces = [piece for piece in machine.ram if piece.end <= machine.hole.start]
    for piece in reversed(low_pieces):
        ends = [piece.end, *(window.start for window in taken if piece.start < window.start <= piece.end)]
        for end in sorted((end // BLOCK * BLOCK for end in ends), reverse=True):
            place = Window(start=max(end - size, 0), size=size, node=piece.node)
            if place.start >= piece.start and not any(
                window.start < place.end and place.start < window.end for window in taken
            ):
                return place
    raise UserError(
        f"the plan leaves no {format_size(size)} free below {machine.hole.start:#x} "
        "for the memory that all kernels share",
        hint='make a window below the PCI hole smaller, or name the place as "region"',
    )


def _with_machine(document: Any) -> Any:
    if isinstance(document, dict) and isinstance(document.get("machine"), str):
        return {**document, "machine": load_machine(document["machine"])}
    return document
