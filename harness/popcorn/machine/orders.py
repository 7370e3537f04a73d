# SPDX-License-Identifier: Apache-2.0
"""What kernels find in their initrds about each other: which to start and where, and their names."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Literal

from popcorn import cpulist
from popcorn.image.initrd import Startable
from popcorn.plan.address import address_of
from popcorn.plan.model import Partition, Plan, Window
from popcorn.plan.pieces import coming
from popcorn.plan.windows import subtract

ORDERS = "/etc/popcorn/kernels"
"""In the primary: ID.conf for each other kernel."""
USUAL = "/etc/popcorn/usual.conf"
"""And what kernels run that are not planned yet."""
LAUNCH = "/etc/popcorn/launch"
_MEMORY = "/etc/popcorn/memory"
_AT_ONCE = "/etc/popcorn/at-once"


def launch_files(
    plan: Plan, startable: Mapping[int, Startable], usual: Startable | None = None
) -> dict[str, tuple[bytes, int]]:
    """What the primary needs to know about the others: one file a kernel, and the list of those to start at boot.

    Args:
        startable: what each secondary runs.
        usual: what those will run that are not planned yet.
    """
    runs = {id: _paths(one) for id, one in startable.items()}
    files = _orders_files(plan, runs)
    return {**files, USUAL: (format_conf(_paths(usual)).encode(), 0o644)} if usual is not None else files


def new_launch_files(plan: Plan, usual: bytes) -> dict[str, tuple[bytes, int]]:
    """The same for a machine that is up and gets another plan.

    Args:
        usual: the primary's file of that name.
    """
    runs = dict.fromkeys((partition.id for partition in plan.secondaries), parse_conf(usual.decode()))
    return _orders_files(plan, runs)


def _orders_files(plan: Plan, runs: Mapping[int, Mapping[str, str]]) -> dict[str, tuple[bytes, int]]:
    orders = {
        f"{ORDERS}/{partition.id}.conf": (_kernel_conf(partition, runs[partition.id]).encode(), 0o644)
        for partition in plan.secondaries
    }
    ids = "".join(f"{partition.id}\n" for partition in plan.secondaries)
    return {**orders, LAUNCH: (ids.encode(), 0o644)}


def _paths(startable: Startable) -> dict[str, str]:
    return {"VMLINUX": startable.vmlinux_path, "INITRD": startable.initrd_path}


def memory_file(plan: Plan) -> dict[str, tuple[bytes, int]]:
    """What the primary does when it has booted to own what it did not boot with."""
    if plan.hotplug is None:
        return {}
    boots_with = plan.hotplug.memory
    orders = own_orders("add", coming(boots_with, subtract(plan.primary.memory, boots_with)).pieces)
    return {_MEMORY: ("".join(f"{order}\n" for order in orders).encode(), 0o644)}


def pace_file(host_cpus: int) -> dict[str, tuple[bytes, int]]:
    """How many kernels the primary has boot at a time: each keeps a CPU of the host busy."""
    return {_AT_ONCE: (f"{host_cpus}\n".encode(), 0o644)}


def own_orders(verb: Literal["add", "remove"], windows: Iterable[Window]) -> list[str]:
    """Lines for popcorn-own in a kernel, by which windows come to it or leave it, each as a whole or not at all."""
    return [f"memory {verb} {window.start:#x}+{window.size:#x}" for window in windows]


def hosts_file(plan: Plan) -> dict[str, tuple[bytes, int]]:
    """/etc/hosts for every kernel: the names of all that there can be on the machine."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for id in range(plan.nr_kernels):
        address = address_of(id)
        lines += [f"{address.v4} {address.name}", f"{address.v6} {address.name}"]
    return {"/etc/hosts": ("".join(f"{line}\n" for line in lines).encode(), 0o644)}


def _kernel_conf(partition: Partition, runs: Mapping[str, str]) -> str:
    fields = {
        "ID": str(partition.id),
        "CPUS": cpulist.format(partition.cpus),
        "ADDRESS": ",".join(f"{window.start:#x}+{window.size:#x}" for window in partition.memory),
        **runs,
        "CMDLINE": partition.cmdline,
    }
    return format_conf(fields)


def parse_conf(text: str) -> dict[str, str]:
    """The fields of a kernel's orders, which a shell reads as well."""
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


def format_conf(fields: Mapping[str, str]) -> str:
    """The other way round."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in fields.items())
