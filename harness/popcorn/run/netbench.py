# SPDX-License-Identifier: Apache-2.0
"""TCP between two kernels, inside one kernel, and between two virtual machines; by turns, all with one CPU each.

Metrics (Gbit/s that the receiver got; each several times, once a round):

    net.pcn      between two kernels of one machine, over their own interface
    net.lo       inside one of these kernels, over the loopback
    net.virtio   between two QEMUs with the same kernel, virtio-net over a socket
    net.A/B      ratios within a round
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.config import load_machine
from popcorn.config.machine import Machine as MachineConfig
from popcorn.errors import GuestError
from popcorn.machine.boot import AccelChoice, BootFiles, up
from popcorn.machine.machine import Machine
from popcorn.plan import make_plan
from popcorn.plan.model import Plan
from popcorn.run import iperf
from popcorn.run.attempt import attempt
from popcorn.run.pinning import pin
from popcorn.run.recorded import RecordedRun, recorded_run
from popcorn.run.results import Measurement

MACHINE = "small"
POLICY = "0;1;2"
ONE, OTHER = 1, 2
PATHS = ("pcn", "lo", "virtio")

_NETWORK = ipaddress.ip_network("10.80.0.0/16")
_PAIR = ("10.81.0.1", "10.81.0.2")
_PAIR_INTERFACE = "eth1"
_PAIR_MEMORY = "512MiB"
_ROLES = ("listen", "connect")
_COMMAND_S = 60.0


def machine_names(name: str) -> tuple[str, ...]:
    """The names of all machines that are booted."""
    return (name, *(f"{name}-{role}" for role in _ROLES))


@dataclass(frozen=True)
class Paths:
    """What is compared: kernels of one machine, and a pair of virtual machines."""

    machine: Machine
    pair: tuple[Machine, Machine]


@contextlib.contextmanager
def network_paths(name: str, *, series: str, accel: AccelChoice) -> Iterator[tuple[RecordedRun, Paths]]:
    """Boot everything, with iperf3 in it and a server in each kernel that takes part; all ends with the block.

    Raises:
        PopcornError: as `popcorn.machine.boot.up`, or iperf3 cannot be brought there.
    """
    plan = make_plan(load_machine(MACHINE), POLICY)
    single = make_plan(_single(), "smp")
    files = iperf.iperf_files()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="popcorn-bench-")))
        kernel, boot_files, single_files = _boot_files(plan, single, files, place, series)
        run = stack.enter_context(
            recorded_run(plan, kernel, boot_files, name=name, purpose="bench network", accel=accel)
        )
        for id in (ONE, OTHER):
            _raise(run.machine, id)
        pin(run.machine, {ONE: 0, OTHER: 1})
        pair = stack.enter_context(_pair(single, single_files, name, accel, run.machine.run_dir))
        yield run, Paths(run.machine, pair)


def _single() -> MachineConfig:
    return MachineConfig.model_validate(
        {
            "name": "single",
            "description": "one CPU",
            "sockets": 1,
            "cores": 1,
            "nodes": [{"cpus": "0", "memory": _PAIR_MEMORY}],
            "devices": [{"name": "net0", "id": "1af4:1000"}],
        }
    )


def _boot_files(
    plan: Plan, single: Plan, files: iperf.Files, place: Path, series: str
) -> tuple[KernelArtifact, BootFiles, BootFiles]:
    """Images with the program, for this benchmark alone: idle secondaries do not carry it."""
    from popcorn.build.kernel import build_kernel
    from popcorn.image import build_image, overlay
    from popcorn.machine.assemble import kernel_files

    secondary = place / "secondary.cpio"
    image = build_image("secondary", kernel=build_kernel(series=series))
    secondary.write_bytes(image.cpio.read_bytes() + overlay(files))
    kernel, boot_files = kernel_files(plan, series=series, secondary_initrd=secondary)
    _, single_files = kernel_files(single, series=series, more_files=files)
    return kernel, boot_files, single_files


@contextlib.contextmanager
def _pair(
    plan: Plan, files: BootFiles, name: str, accel: AccelChoice, run_dir: Path
) -> Iterator[tuple[Machine, Machine]]:
    port = _free_port()
    with contextlib.ExitStack() as stack:
        found = []
        for number, role in enumerate(_ROLES):
            # The addresses differ: both are on one wire.
            options = (
                *("-netdev", f"socket,id=pair,{role}=127.0.0.1:{port}"),
                *("-device", f"virtio-net-pci,netdev=pair,romfile=,mac=52:54:00:50:43:{number + 1:02x}"),
            )
            machine = stack.enter_context(
                up(
                    *(plan, files),
                    name=f"{name}-{role}",
                    accel=accel,
                    tied=True,
                    run_dir=run_dir / role,
                    qemu_options=options,
                )
            )
            pin(machine, {0: number})
            _configure(machine, 0, _PAIR_INTERFACE, _PAIR[number], 24)
            iperf.serve(_runner(machine, 0), f"virtual machine {machine.name}")
            found.append(machine)
        yield found[0], found[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _address(id: int) -> str:
    return str(_NETWORK[id + 1])


def _raise(machine: Machine, id: int) -> None:
    """Give a kernel its address, if it has none yet, and start a server in it."""
    shown = machine.exec(id, ["ifconfig", "pcn0"], timeout_s=_COMMAND_S)
    if shown.status:
        raise GuestError(f"kernel {id} has no interface pcn0: {shown.stderr_text.strip()}")
    if f"inet addr:{_address(id)} " not in shown.stdout_text:
        _configure(machine, id, "pcn0", _address(id), _NETWORK.prefixlen)
    iperf.serve(_runner(machine, id), f"kernel {id}")


def _configure(machine: Machine, id: int, interface: str, address: str, prefix: int) -> None:
    netmask = str(ipaddress.ip_network(f"0.0.0.0/{prefix}").netmask)
    done = machine.exec(id, ["ifconfig", interface, address, "netmask", netmask, "up"], timeout_s=_COMMAND_S)
    if done.status:
        raise GuestError(f"kernel {id} of {machine.name} refuses {address} for {interface}: {done.stderr_text.strip()}")


def _runner(machine: Machine, id: int) -> iperf.Run:
    return lambda argv, timeout_s: machine.exec(id, argv, timeout_s=timeout_s)


def measure_network(paths: Paths, repeat: int, seconds: int) -> Iterator[list[Measurement]]:
    """Measure all paths, as often as asked; each round gives its measurements.

    Raises:
        MachineLostError: a machine is gone.
    """
    for number in range(repeat):
        # Who goes first changes, and the direction.
        first = number % len(PATHS)
        swapped = bool(number % 2)
        yield with_ratios(
            [
                one
                for path in (*PATHS[first:], *PATHS[:first])
                for one in attempt(
                    partial(_throughput, paths, path, swapped, seconds),
                    {f"net.{path}": "Gbit/s"},
                    paths.machine.run_dir,
                )
            ]
        )


def with_ratios(found: Sequence[Measurement]) -> list[Measurement]:
    """What a round tells: the paths, and how many times as fast the kernels' own is; void without both."""
    by_metric = {one.metric: one.value for one in found}
    own = by_metric.get("net.pcn")
    ratios = []
    for path in PATHS[1:]:
        other = by_metric.get(f"net.{path}")
        ratio = own / other if own is not None and other else None
        ratios.append(Measurement(f"net.pcn/{path}", ratio, "x", status="void" if ratio is None else "ok"))
    return [*found, *ratios]


def _throughput(paths: Paths, path: str, swapped: bool, seconds: int) -> list[Measurement]:
    return [Measurement(f"net.{path}", _gbit_per_s(paths, path, swapped, seconds), "Gbit/s")]


def _gbit_per_s(paths: Paths, path: str, swapped: bool, seconds: int) -> float:
    client, server = (OTHER, ONE) if swapped else (ONE, OTHER)
    match path:
        case "pcn":
            run, address, where = _runner(paths.machine, client), _address(server), f"kernel {client}"
        case "lo":
            run, address, where = _runner(paths.machine, client), "127.0.0.1", f"kernel {client}"
        case _:
            machine, address = paths.pair[int(swapped)], _PAIR[int(not swapped)]
            run, where = _runner(machine, 0), f"virtual machine {machine.name}"
    return iperf.throughput(run, address, seconds, where) / 1e9
