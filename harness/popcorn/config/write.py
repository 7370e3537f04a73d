# SPDX-License-Identifier: Apache-2.0
"""Writing a machine as TOML that `load_machine` reads."""

from __future__ import annotations

import json

from popcorn import cpulist
from popcorn.config.machine import Machine, Range
from popcorn.config.sizes import GIB, MIB


def machine_toml(machine: Machine) -> str:
    """The description of a machine, as a person might have written it."""
    lines = [f"name = {_string(machine.name)}"]
    if machine.description:
        lines.append(f"description = {_string(machine.description)}")
    for key in ("sockets", "dies", "cores", "threads"):
        lines.append(f"{key} = {getattr(machine, key)}")
    if machine.pci_hole is not None:
        lines.append(f"pci_hole = {_range(machine.pci_hole)}")
    for node in machine.nodes:
        lines += ["", "[[nodes]]", f'cpus = "{cpulist.format(node.cpus)}"', f"memory = {_size(node.memory)}"]
        if node.ram is not None:
            lines += ["ram = [", *(f"  {_range(piece)}," for piece in node.ram), "]"]
    for device in machine.devices:
        lines += ["", "[[devices]]", f"name = {_string(device.name)}", f'id = "{device.id}"']
    for number, cpu in enumerate(machine.cpus or ()):
        lines += ["", f"[[cpus]] # {number}"]
        lines += [f"{key} = {getattr(cpu, key)}" for key in ("apic_id", "socket", "die", "core")]
    return "\n".join(lines) + "\n"


def _string(text: str) -> str:
    # TOML's basic strings escape what JSON's do.
    return json.dumps(text)


def _range(piece: Range) -> str:
    return f'{{ start = "{piece.start:#x}", end = "{piece.end:#x}" }}'


def _size(size_bytes: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size_bytes and size_bytes % unit == 0:
            return f'"{size_bytes // unit}{name}"'
    return str(size_bytes)
