# SPDX-License-Identifier: Apache-2.0
"""SMP Linux: one kernel for the whole machine, of the same source and configuration, with Popcorn idle.

As in the paper, a program of threads finds as many active cores as it has threads; all others find all cores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.experiment.protocols import Files, Kernel, Setting, State
from popcorn.experiment.systems.booting import one_machine
from popcorn.experiment.systems.running import Member, Running
from popcorn.experiment.systems.wire import SERVER, beside, client_name
from popcorn.machine.instructions import InstructionFile
from popcorn.machine.limits import expected_bytes
from popcorn.machine.qemu import Accel
from popcorn.plan import make_plan
from popcorn.plan.model import Plan

_LOOPBACK = "127.0.0.1"
_BOOT_S, _CPU_S = 4.0, 0.8


@dataclass(frozen=True)
class SmpLinux:
    """Fits `protocols.System`. Its states are how many CPUs are active."""

    setting: Setting

    name = "smp"
    title = "SMP Linux"
    messages = False

    @property
    def machine_names(self) -> Sequence[str]:
        return (self.setting.name, client_name(self.setting)) if self.setting.client else (self.setting.name,)

    def state(self, cores: int, together: bool) -> State:
        return str(min(cores, self._all) if together else self._all)

    def kernels(self, state: State) -> Sequence[Kernel]:
        return [Kernel(0, int(state), self._plan(state).primary.memory_bytes, _LOOPBACK)]

    def host_bytes(self, state: State) -> int:
        return expected_bytes(self._plan(state), "default")

    def estimate_s(self, state: State) -> float:
        return _BOOT_S + _CPU_S * int(state)

    @contextlib.contextmanager
    def boot(
        self, state: State, accel: Accel, files: Files, into: Path, *, counting: bool = False
    ) -> Iterator[Running]:
        counts: dict[str, InstructionFile] = {}
        with (
            beside(self.setting, accel, files, into) as (options, start_client),
            one_machine(
                self._plan(state),
                name=self.setting.name,
                series=self.setting.series,
                accel=accel,
                files=files,
                into=into,
                qemu_options=options,
                counts=counts if counting else None,
            ) as (machine, manifest),
            start_client(machine, {0: SERVER}) as client,
        ):
            yield Running(self.kernels(state), {0: Member(machine, 0)}, manifest, None, client, counts)

    @property
    def _all(self) -> int:
        return self.setting.machine.nr_cpus

    def _plan(self, state: State) -> Plan:
        # The others are there and never started.
        extra = "" if int(state) == self._all else f"maxcpus={state}"
        return make_plan(self.setting.machine, "smp", extra_cmdline=extra)
