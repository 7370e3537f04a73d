# SPDX-License-Identifier: Apache-2.0
"""Virtual machines, one for each core, after KVM/Nahanni: memory windows that all share, and one switch.

Each is a QEMU with one CPU, the same kernel, as much memory as a core has on the machine, an ``ivshmem-plain`` device
whose window all map, and a network card on a VDE switch, which forwards a frame to the one machine it is for, as the
bridge of the paper does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.config.machine import Machine as MachineConfig
from popcorn.config.sizes import GIB, MIB
from popcorn.dirs import runtime_dir
from popcorn.errors import GuestError, HostError
from popcorn.experiment.protocols import Files, Kernel, Setting, State
from popcorn.experiment.systems.booting import Member, Running, await_all, booting
from popcorn.machine.limits import expected_bytes
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.plan import make_plan
from popcorn.plan.memory import BLOCK
from popcorn.plan.model import Plan
from popcorn.process import dying_with_parent, require_program

_NETWORK = ipaddress.ip_network("10.81.0.0/16")
_INTERFACE = "eth1"
_WINDOW_BYTES = 64 * MIB
_LEAST_BYTES, _MOST_BYTES = 256 * MIB, 2 * GIB
_GUEST_S = 4.0
_COMMAND_S = 60.0
_SWITCH_S = 10.0
_SWITCH = "vde_switch"


@dataclass(frozen=True)
class VirtualMachines:
    """Fits `protocols.System`. Its only state is how many guests there are: as many as any trial uses."""

    setting: Setting

    name = "vm"
    title = "virtual machines, one a core"
    messages = False

    @property
    def machine_names(self) -> Sequence[str]:
        return [f"{self.setting.name}-{number}" for number in range(self.setting.most_cores)]

    def state(self, cores: int, together: bool) -> State:
        return str(self.setting.most_cores)

    def kernels(self, state: State) -> Sequence[Kernel]:
        memory = self._plan().primary.memory_bytes
        return [Kernel(id, 1, memory, str(_NETWORK[id + 1])) for id in range(int(state))]

    def host_bytes(self, state: State) -> int:
        return int(state) * expected_bytes(self._plan(), "default") // 4

    def estimate_s(self, state: State) -> float:
        return _GUEST_S * int(state) / min(int(state), len(os.sched_getaffinity(0)))

    @contextlib.contextmanager
    def boot(self, state: State, accel: Accel, files: Files, into: Path) -> Iterator[Running]:
        count = int(state)
        with contextlib.ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="w", dir=runtime_dir())))
            window = place / "window"
            with window.open("wb") as file:
                file.truncate(_WINDOW_BYTES)
            wire = stack.enter_context(switch(place / "switch", into, ports=count + 1))
            start_one, manifest = stack.enter_context(
                booting(self._plan(), series=self.setting.series, accel=accel, files=files)
            )
            machines: list[Machine] = []
            for number, name in enumerate(self.machine_names):
                options = guest_options(number, window, wire)
                machines.append(stack.enter_context(start_one(name, into / f"vm-{number}", options)))
            await_all(machines)
            kernels = self.kernels(state)
            for kernel, machine in zip(kernels, machines, strict=True):
                _give_address(machine, kernel.address)
            members = {kernel.id: Member(machine, 0) for kernel, machine in zip(kernels, machines, strict=True)}
            yield Running(kernels, members, manifest.model_copy(update={"guests": count}), _INTERFACE)

    def _plan(self) -> Plan:
        return make_plan(guest_machine(self.setting.machine), "smp")


def guest_machine(machine: MachineConfig) -> MachineConfig:
    """One core of a machine, with its part of the memory."""
    memory = machine.memory_bytes // machine.nr_cpus // BLOCK * BLOCK
    memory = min(max(memory, _LEAST_BYTES), _MOST_BYTES)
    return MachineConfig.model_validate(
        {
            "name": "guest",
            "description": f"one core of {machine.name}",
            "sockets": 1,
            "cores": 1,
            "nodes": [{"cpus": "0", "memory": memory}],
            "devices": [{"name": "net0", "id": "1af4:1000"}],
        }
    )


def guest_options(number: int, window: Path, wire: Path) -> tuple[str, ...]:
    """What of a guest's QEMU is not that of any machine: the window, and a card on the switch."""
    backend = f"memory-backend-file,id=window,size={_WINDOW_BYTES},mem-path={window},share=on"
    card = f"virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:50:{number >> 8:02x}:{number & 255:02x}"
    return (
        *("-object", backend),
        *("-device", "ivshmem-plain,memdev=window"),
        *("-netdev", f"vde,id=wire,sock={wire}"),
        *("-device", card),
    )


@contextlib.contextmanager
def switch(path: Path, into: Path, *, ports: int) -> Iterator[Path]:
    """A virtual Ethernet switch for as long as the block; guests name its folder.

    Raises:
        HostError: there is none, or it does not start.
    """
    program = require_program(_SWITCH)
    argv = [program, "--sock", str(path), "--mode", "0600", "--numports", str(ports)]
    into.mkdir(parents=True, exist_ok=True)
    with (into / "switch.log").open("ab") as log:
        # It ends when its standard input does, so that it cannot outlive us.
        process = subprocess.Popen(dying_with_parent(argv), stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _SWITCH_S
        while not (path / "ctl").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise HostError(f"{_SWITCH} did not start; see {into / 'switch.log'}")
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(path, ignore_errors=True)


def _give_address(machine: Machine, address: str) -> None:
    done = machine.exec(
        0, ["ifconfig", _INTERFACE, address, "netmask", str(_NETWORK.netmask), "up"], timeout_s=_COMMAND_S
    )
    if done.status:
        raise GuestError(f"{machine.name} refuses {address} for {_INTERFACE}: {done.stderr_text.strip()}")
