# SPDX-License-Identifier: Apache-2.0
"""What kernels find in their initrds about each other: which to start and where, and their names."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from popcorn import cpulist
from popcorn.image.initrd import Startable
from popcorn.plan.address import address_of
from popcorn.plan.model import Partition, Plan


def launch_files(plan: Plan, startable: Mapping[int, Startable]) -> dict[str, tuple[bytes, int]]:
    """What the primary needs to know about the others: one file a kernel, and the list of those to start at boot.

    Args:
        startable: what each secondary runs.
    """
    files = {
        f"/etc/popcorn/kernels/{partition.id}.conf": (_kernel_conf(partition, startable[partition.id]).encode(), 0o644)
        for partition in plan.secondaries
    }
    ids = "".join(f"{partition.id}\n" for partition in plan.secondaries)
    return {**files, "/etc/popcorn/launch": (ids.encode(), 0o644)}


def hosts_file(plan: Plan) -> dict[str, tuple[bytes, int]]:
    """/etc/hosts for every kernel: the names of all."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for partition in plan.partitions:
        address = address_of(partition.id)
        lines += [f"{address.v4} {address.name}", f"{address.v6} {address.name}"]
    return {"/etc/hosts": ("".join(f"{line}\n" for line in lines).encode(), 0o644)}


def _kernel_conf(partition: Partition, runs: Startable) -> str:
    fields = {
        "ID": str(partition.id),
        "CPUS": cpulist.format(partition.cpus),
        "ADDRESS": ",".join(f"{window.start:#x}+{window.size:#x}" for window in partition.memory),
        "VMLINUX": runs.vmlinux_path,
        "INITRD": runs.initrd_path,
        "CMDLINE": partition.cmdline,
    }
    return format_conf(fields)


def parse_conf(text: str) -> dict[str, str]:
    """The fields of a kernel's orders, which a shell reads as well."""
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


def format_conf(fields: Mapping[str, str]) -> str:
    """The other way round."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in fields.items())
