# SPDX-License-Identifier: Apache-2.0
"""Virtual machines, one for each core, after KVM/Nahanni: memory windows that all share, and one switch.

Each is a QEMU with one CPU, the same kernel, as much memory as a core has on the machine, an ``ivshmem-plain`` device
whose window all map, and a network card on a switch.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.config.sizes import MIB
from popcorn.dirs import runtime_dir
from popcorn.experiment.protocols import Files, Kernel, Setting, State
from popcorn.experiment.systems.booting import await_all, booting
from popcorn.experiment.systems.running import Member, Running
from popcorn.experiment.systems.wire import (
    INTERFACE,
    NETWORK,
    SERVER,
    beside,
    card_options,
    client_name,
    give_address,
    guest_machine,
    wire,
)
from popcorn.machine.instructions import InstructionFile
from popcorn.machine.limits import expected_bytes
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.plan import make_plan
from popcorn.plan.model import Plan

_LINK_INTERFACE = "eth2"
_WINDOW_BYTES = 64 * MIB
_GUEST_S = 4.0


@dataclass(frozen=True)
class VirtualMachines:
    """Fits `protocols.System`. Its only state is how many guests there are: as many as any trial uses."""

    setting: Setting

    name = "vm"
    title = "virtual machines, one a core"
    messages = False

    @property
    def machine_names(self) -> Sequence[str]:
        guests = [f"{self.setting.name}-{number}" for number in range(self.setting.most_cores)]
        return [*guests, client_name(self.setting)] if self.setting.client else guests

    def state(self, cores: int, together: bool) -> State:
        return str(self.setting.most_cores)

    def kernels(self, state: State) -> Sequence[Kernel]:
        memory = self._plan().primary.memory_bytes
        return [Kernel(id, 1, memory, str(NETWORK[id + 1])) for id in range(int(state))]

    def host_bytes(self, state: State) -> int:
        return int(state) * expected_bytes(self._plan(), "default") // 4

    def estimate_s(self, state: State) -> float:
        return _GUEST_S * int(state) / min(int(state), len(os.sched_getaffinity(0)))

    @contextlib.contextmanager
    def boot(
        self, state: State, accel: Accel, files: Files, into: Path, *, counting: bool = False
    ) -> Iterator[Running]:
        counts: dict[str, InstructionFile] = {}
        count = int(state)
        with contextlib.ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="w", dir=runtime_dir())))
            window = place / "window"
            with window.open("wb") as file:
                file.truncate(_WINDOW_BYTES)
            path = stack.enter_context(wire(into, machines=count))
            start_one, manifest = stack.enter_context(
                booting(
                    self._plan(),
                    series=self.setting.series,
                    accel=accel,
                    files=files,
                    counts=counts if counting else None,
                )
            )
            # Only the first is asked.
            link, start_client = stack.enter_context(
                beside(self.setting, accel, files, into, interface=_LINK_INTERFACE)
            )
            machines: list[Machine] = []
            for number, name in enumerate(self.machine_names[:count]):
                options = (*guest_options(number, window, path), *(link if number == 0 else ()))
                machines.append(stack.enter_context(start_one(name, into / f"vm-{number}", options)))
            await_all(machines)
            kernels = self.kernels(state)
            for kernel, machine in zip(kernels, machines, strict=True):
                give_address(machine, kernel.address)
            members = {kernel.id: Member(machine, 0) for kernel, machine in zip(kernels, machines, strict=True)}
            client = stack.enter_context(start_client(machines[0], {kernels[0].id: SERVER}))
            manifest = manifest.model_copy(update={"guests": count})
            yield Running(kernels, members, manifest, INTERFACE, client, counts)

    def _plan(self) -> Plan:
        return make_plan(guest_machine(self.setting.machine), "smp")


def guest_options(number: int, window: Path, path: Path) -> tuple[str, ...]:
    """What of a guest's QEMU is not that of any machine: the window, and a card on the switch."""
    backend = f"memory-backend-file,id=window,size={_WINDOW_BYTES},mem-path={window},share=on"
    return ("-object", backend, "-device", "ivshmem-plain,memdev=window", *card_options(number, path))
