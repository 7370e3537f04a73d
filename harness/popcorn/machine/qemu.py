# SPDX-License-Identifier: Apache-2.0
"""The QEMU command line, from one typed description of a machine."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from popcorn import cpulist
from popcorn.errors import HostError, UserError
from popcorn.process import run

PROGRAM = "qemu-system-x86_64"
OLDEST_VERSION = (7, 2)
COMMAND_LINE_LIMIT = 2047

QMP_SOCKET = "qmp.sock"
MONITOR_SOCKET = "monitor.sock"
SERIAL_SOCKET = "serial.sock"
GUEST_SSH_PORT = 22

# Each kernel has its own copy of the code at other addresses, so that translations are not shared:
# 48 kernels fill QEMU's default of 1 GiB, and when it is full all is translated anew. Untouched
# parts cost nothing; 2 GiB is the most that QEMU takes.
_TRANSLATION_BUFFER_MIB = 2047
# Five levels of page tables cost a twentieth of the boot's time and serve no machine of ours.
_CPU = "max,la57=off"
# TCG runs `rep movsb` a byte at a time. Linux copies to and from user space with it if the CPU claims to be fast
# at it: without, TCP over the loopback is four times as fast.
_TCG_CPU = f"{_CPU},erms=off"

Accel = Literal["kvm", "tcg"]


@dataclass(frozen=True)
class Node:
    """A NUMA node: its global CPU numbers, and its memory as a file that QEMU can open."""

    cpus: tuple[int, ...]
    memory_bytes: int
    memory_path: str


@dataclass(frozen=True)
class MachineSpec:
    """Everything that decides the command line. Socket names are relative to QEMU's working directory."""

    name: str
    sockets: int
    dies: int
    cores: int
    threads: int
    nodes: tuple[Node, ...]
    kernel: Path | None
    """None for a machine that is not booted: it waits for the state of another one."""
    initrd: Path | None
    cmdline: str
    accel: Accel
    serial_log: Path
    network: bool = True
    extra: tuple[str, ...] = ()

    @property
    def nr_cpus(self) -> int:
        return self.sockets * self.dies * self.cores * self.threads


def argv(spec: MachineSpec) -> list[str]:
    """The command line of a machine, for any QEMU from `OLDEST_VERSION` on.

    Raises:
        UserError: the kernel's command line is too long.
    """
    if len(spec.cmdline.encode()) > COMMAND_LINE_LIMIT:
        raise UserError(
            f"the primary's command line has {len(spec.cmdline.encode())} bytes; Linux takes {COMMAND_LINE_LIMIT}",
            hint="use fewer partitions with memory in fewer pieces, or fewer extra parameters",
        )
    line = [PROGRAM]
    line += ["-name", f"popcorn-{spec.name},debug-threads=on"]
    line += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-machine", "q35"]
    line += ["-cpu", _TCG_CPU if spec.accel == "tcg" else _CPU]
    line += ["-accel", f"tcg,thread=multi,tb-size={_TRANSLATION_BUFFER_MIB}" if spec.accel == "tcg" else "kvm"]
    line += ["-smp", _smp(spec)]
    line += ["-m", f"{sum(node.memory_bytes for node in spec.nodes) >> 20}M"]
    for number, node in enumerate(spec.nodes):
        line += ["-object", _memory_backend(number, node)]
        line += ["-numa", _numa_node(number, node)]
    if spec.kernel is not None:
        line += ["-kernel", escaped(spec.kernel)]
        if spec.initrd is not None:
            line += ["-initrd", escaped(spec.initrd)]
        line += ["-append", spec.cmdline]
    else:
        line += ["-S", "-incoming", "defer"]
    line += ["-chardev", f"socket,id=qmp,path={QMP_SOCKET},server=on,wait=off"]
    line += ["-mon", "chardev=qmp,mode=control"]
    line += ["-chardev", f"socket,id=monitor,path={MONITOR_SOCKET},server=on,wait=off"]
    line += ["-mon", "chardev=monitor,mode=control"]
    line += [
        "-chardev",
        f"socket,id=serial,path={SERIAL_SOCKET},server=on,wait=off,logfile={escaped(spec.serial_log)},logappend=on",
    ]
    line += ["-device", "isa-serial,chardev=serial"]
    if spec.network:
        # Port 0: the host's kernel picks a free one, and QMP tells which.
        line += ["-netdev", f"user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:0-:{GUEST_SSH_PORT}"]
        line += ["-device", "virtio-net-pci,netdev=net0,romfile="]
    line += spec.extra
    return line


def _smp(spec: MachineSpec) -> str:
    topology = f"sockets={spec.sockets},dies={spec.dies},cores={spec.cores},threads={spec.threads}"
    return f"{spec.nr_cpus},{topology}"


def _memory_backend(number: int, node: Node) -> str:
    size = f"{node.memory_bytes >> 20}M"
    return f"memory-backend-file,id=ram{number},size={size},mem-path={node.memory_path},share=on,reserve=off"


def _numa_node(number: int, node: Node) -> str:
    ranges = cpulist.format(node.cpus).split(",") if node.cpus else []
    cpus = "".join(f",cpus={piece}" for piece in ranges)
    return f"node,nodeid={number}{cpus},memdev=ram{number}"


def escaped(path: Path) -> str:
    """A path as a value of a QEMU option, where a comma ends the value."""
    return str(path).replace(",", ",,")


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor version from what ``qemu-system-x86_64 --version`` prints.

    Raises:
        HostError: there is none in it.
    """
    found = re.search(r"version (\d+)\.(\d+)", text)
    if not found:
        raise HostError(f"{PROGRAM} --version does not tell a version: {text.strip()[:80]!r}")
    return int(found[1]), int(found[2])


def check_version(version: tuple[int, int]) -> None:
    """
    Raises:
        HostError: this QEMU is too old.
    """
    if version < OLDEST_VERSION:
        found, oldest = (".".join(map(str, pair)) for pair in (version, OLDEST_VERSION))
        raise HostError(
            f"{PROGRAM} is version {found}; at least {oldest} is needed",
            hint="install qemu-system-x86 of Debian 12 or newer",
        )


def host_version() -> tuple[int, int]:
    """The version of the QEMU on this host; remembered until the program changes.

    Raises:
        HostError: there is no QEMU, or it is too old.
    """
    from popcorn.dirs import cache_dir
    from popcorn.files import write_atomic

    found = shutil.which(PROGRAM)
    if found is None:
        raise HostError(
            f"{PROGRAM} is not on this host (searched PATH)",
            hint="install Debian's package qemu-system-x86; `popcorn doctor` tells what else is missing",
        )
    program = Path(found)
    status = program.stat()
    identity = f"{program} {status.st_size} {status.st_mtime_ns} "
    remembered = cache_dir() / "qemu-version"
    try:
        text = remembered.read_text(encoding="utf-8")
    except OSError:
        text = ""
    if not text.startswith(identity):
        text = identity + run([PROGRAM, "--version"]).stdout
        write_atomic(remembered, text)
    version = parse_version(text.removeprefix(identity))
    check_version(version)
    return version
