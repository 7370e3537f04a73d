# SPDX-License-Identifier: Apache-2.0
"""What connects emulated machines: a switch for the guests of `virtual`, and a link to a client that asks others.

The switch is VDE's, which forwards a frame to the one machine it is for, as the bridge of the paper does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from popcorn.config.machine import Machine as MachineConfig
from popcorn.config.sizes import GIB, MIB
from popcorn.dirs import runtime_dir
from popcorn.errors import GuestError, HostError
from popcorn.experiment.protocols import Files, Setting
from popcorn.experiment.systems.booting import await_all, booting
from popcorn.experiment.systems.running import ClientMachine
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.plan import make_plan
from popcorn.plan.address import NETWORK_V4
from popcorn.plan.memory import BLOCK
from popcorn.process import dying_with_parent, require_program

NETWORK = ipaddress.ip_network("10.81.0.0/16")
INTERFACE = "eth1"
_LINK = ipaddress.ip_network("10.82.0.0/16")
SERVER = str(_LINK[1])
"""The address by which the client reaches what it is connected with."""
_CLIENT = str(_LINK[2])
_LEAST_BYTES, _MOST_BYTES = 256 * MIB, 2 * GIB
_COMMAND_S = 60.0
_SWITCH_S = 10.0
_SWITCH = "vde_switch"
# Any primary is ready to be the gateway of others, and notes each connection for two minutes after its end: a small
# kernel has room for some hundreds, and drops what is beyond. Who has no others need not.
_NO_GATEWAY = "nft flush ruleset 2>/dev/null || iptables -t nat -F"
_LARGE_GATEWAY = """
cd /proc/sys/net/netfilter 2>/dev/null || exit 0
echo 16384 >/sys/module/nf_conntrack/parameters/hashsize
echo 262144 >nf_conntrack_max
echo 5 >nf_conntrack_tcp_timeout_time_wait
"""


def client_name(setting: Setting) -> str:
    """Of the client's machine."""
    return f"{setting.name}-client"


@contextlib.contextmanager
def wire(into: Path, *, machines: int) -> Iterator[Path]:
    """A switch for some machines, for as long as the block; its folder.

    Args:
        into: where its log goes.

    Raises:
        HostError: it does not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="w", dir=runtime_dir()) as place,
        switch(Path(place) / "switch", into, ports=machines + 1) as path,
    ):
        yield path


@contextlib.contextmanager
def client(
    setting: Setting, link: Path, accel: Accel, files: Files, into: Path, addresses: Mapping[int, str]
) -> Iterator[ClientMachine]:
    """Boot the client at the other end of a link; it ends with the block.

    Args:
        link: the socket.
        addresses: by which it reaches kernels; all but `SERVER` by that.

    Raises:
        PopcornError: as `popcorn.machine.boot.up`.
    """
    plan = make_plan(guest_machine(setting.machine), "smp")
    with (
        booting(plan, series=setting.series, accel=accel, files=files) as (start_one, _),
        start_one(client_name(setting), into / "client", _link_options(link, 2)) as machine,
    ):
        await_all([machine])
        _run(machine, ["sh", "-c", _NO_GATEWAY])
        give_address(machine, _CLIENT)
        if set(addresses.values()) != {SERVER}:
            # Its own kernel has a network of kernels, too.
            _run(machine, ["sh", "-c", f"ifconfig pcn0 down 2>/dev/null; ip route add {NETWORK_V4} via {SERVER}"])
        yield ClientMachine(machine, addresses)


StartClient = Callable[[Machine, Mapping[int, str]], AbstractContextManager[ClientMachine | None]]
"""Boots the client for a machine that is up, with the addresses of its kernels."""


@contextlib.contextmanager
def beside(
    setting: Setting, accel: Accel, files: Files, into: Path, *, interface: str = INTERFACE, gateway: bool = False
) -> Iterator[tuple[tuple[str, ...], StartClient]]:
    """A link between a machine and the client, if the experiment has one: QEMU's options for the machine, and what
    starts the client when that is up.

    The link is a stream between the two QEMUs, with no process of its own, and loses nothing.

    Args:
        interface: what the machine's kernel will call its end.
        gateway: whether the client reaches other kernels through it.
    """
    if not setting.client:
        yield (), lambda machine, addresses: contextlib.nullcontext()
        return
    with tempfile.TemporaryDirectory(prefix="w", dir=runtime_dir()) as place:
        link = Path(place) / "link"

        def start_client(
            machine: Machine, addresses: Mapping[int, str]
        ) -> AbstractContextManager[ClientMachine | None]:
            give_address(machine, SERVER, interface)
            _run(machine, ["sh", "-c", _LARGE_GATEWAY if gateway else _NO_GATEWAY])
            return client(setting, link, accel, files, into, addresses)

        yield _link_options(link, 1), start_client


def _link_options(link: Path, end: int) -> tuple[str, ...]:
    """For QEMU: a card on a link; the first end is there before the second."""
    server = "on" if end == 1 else "off"
    netdev = f"stream,id=link,server={server},addr.type=unix,addr.path={link}"
    return ("-netdev", netdev, "-device", f"virtio-net-pci,netdev=link,romfile=,mac=52:54:00:50:4c:{end:02x}")


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


def card_options(number: int, path: Path) -> tuple[str, ...]:
    """For QEMU: a card on the switch.

    Args:
        number: of the machine, for its hardware address.
        path: the switch's folder.
    """
    card = f"virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:50:{number >> 8:02x}:{number & 255:02x}"
    return ("-netdev", f"vde,id=wire,sock={path}", "-device", card)


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


def give_address(machine: Machine, address: str, interface: str = INTERFACE) -> None:
    """Set up a machine's card on a switch or a link.

    Raises:
        GuestError: its kernel refuses.
    """
    _run(machine, ["ifconfig", interface, address, "netmask", str(NETWORK.netmask), "up"])


def _run(machine: Machine, argv: Sequence[str]) -> None:
    done = machine.exec(0, argv, timeout_s=_COMMAND_S)
    if done.status:
        raise GuestError(f"{machine.name} refuses `{' '.join(argv)}`: {done.stderr_text.strip()}")
