# SPDX-License-Identifier: Apache-2.0
"""Popcorn: the machine cut into partitions, a kernel each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from popcorn.config.machine import Machine as MachineConfig
from popcorn.experiment.protocols import Files, Kernel, Setting, State
from popcorn.experiment.systems.booting import one_machine
from popcorn.experiment.systems.running import Member, Running
from popcorn.experiment.systems.wire import beside, client_name
from popcorn.machine.instructions import InstructionFile
from popcorn.machine.limits import expected_bytes
from popcorn.machine.qemu import Accel
from popcorn.plan import make_plan
from popcorn.plan.address import address_of
from popcorn.plan.model import Plan

_INTERFACE = "pcn0"
# The primary boots, and then starts the others side by side.
_PRIMARY_S, _SECONDARY_S = 5.0, 1.2


def per_core(setting: Setting) -> PopcornSystem:
    """One kernel for each core, as in the paper."""
    return PopcornSystem("popcorn", "Popcorn, a kernel a core", setting, lambda cores, together: "per-core")


def per_node(setting: Setting) -> PopcornSystem:
    """One kernel for each NUMA node."""
    return PopcornSystem("popcorn-node", "Popcorn, a kernel a node", setting, lambda cores, together: "per-node")


def cluster(setting: Setting) -> PopcornSystem:
    """A primary with as many cores as the trial, and a kernel for each core that is left."""

    def policy(cores: int, together: bool) -> State:
        rest = [str(cpu) for cpu in range(cores, setting.machine.nr_cpus)]
        return ";".join([f"0-{cores - 1}" if cores > 1 else "0", *rest])

    return PopcornSystem("popcorn-cluster", "Popcorn, one kernel of all cores used", setting, policy)


@dataclass(frozen=True)
class PopcornSystem:
    """Fits `protocols.System`. Its states are policies."""

    name: str
    title: str
    setting: Setting
    policy: Callable[[int, bool], State]

    messages = True

    @property
    def machine_names(self) -> Sequence[str]:
        return (self.setting.name, client_name(self.setting)) if self.setting.client else (self.setting.name,)

    def state(self, cores: int, together: bool) -> State:
        return self.policy(min(cores, self.setting.machine.nr_cpus), together)

    def kernels(self, state: State) -> Sequence[Kernel]:
        """Secondaries first: the primary has the network card and starts the others."""
        plan = self._plan(state)
        order = [*plan.secondaries, plan.primary] if self.name != "popcorn-cluster" else [plan.primary]
        return [Kernel(one.id, len(one.cpus), one.memory_bytes, str(address_of(one.id).v4)) for one in order]

    def host_bytes(self, state: State) -> int:
        return expected_bytes(self._plan(state), "default")

    def estimate_s(self, state: State) -> float:
        return _PRIMARY_S + _SECONDARY_S * len(self._plan(state).secondaries)

    @contextlib.contextmanager
    def boot(
        self, state: State, accel: Accel, files: Files, into: Path, *, counting: bool = False
    ) -> Iterator[Running]:
        counts: dict[str, InstructionFile] = {}
        plan = self._plan(state)
        kernels = self.kernels(state)
        with (
            beside(self.setting, accel, files, into, gateway=True) as (options, start_client),
            one_machine(
                plan,
                name=self.setting.name,
                series=self.setting.series,
                accel=accel,
                files=files,
                into=into,
                qemu_options=options,
                counts=counts if counting else None,
            ) as (machine, manifest),
            # The client is connected with the primary, which is the way to the others.
            start_client(machine, {kernel.id: kernel.address for kernel in kernels}) as client,
        ):
            members = {partition.id: Member(machine, partition.id) for partition in plan.partitions}
            yield Running(kernels, members, manifest, _INTERFACE, client, counts)

    def _plan(self, state: State) -> Plan:
        return _planned(self.setting.machine, state)


@cache
def _planned(machine: MachineConfig, policy: State) -> Plan:
    return make_plan(machine, policy)
