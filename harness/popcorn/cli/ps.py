# SPDX-License-Identifier: Apache-2.0
"""``popcorn ps``"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from popcorn.cli.machine_options import name_option

if TYPE_CHECKING:
    from popcorn.machine.status import KernelStatus

_HEADER = [
    "ID",
    "CPUS",
    "STATE",
    "STAGE",
    "HEALTH",
    "BEAT",
    "UPTIME",
    "CPU",
    "WINDOWS",
    "FREE",
    "RESIDENT",
    "BEYOND",
    "RELEASE",
]
_RIGHT = frozenset({"ID", "BEAT", "UPTIME", "CPU", "WINDOWS", "FREE", "RESIDENT", "BEYOND"})


@click.command()
@name_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def ps(name: str, as_json: bool) -> None:
    """List the kernels of a machine; of one that died, as they were at its end.

    HEALTH is whether a kernel gets on: ok; slow, if the host gives it too little
    time; hung, if it is busy without a beat; silent, if its CPUs stand still. BEAT
    is how long ago its heart was seen to beat, WINDOWS the memory that it owns,
    FREE what it says is free, RESIDENT what the host has given pages to, BEYOND
    that without the array of page descriptors (1/64 of the windows).
    """
    from popcorn import progress
    from popcorn.cli.table import print_table
    from popcorn.machine.machine import attach

    with attach(name) as machine:
        kernels = machine.ps()
        record = machine.record
    if record.status == "dead":
        progress.note(f"the machine {name!r} has died: {record.reason}; its kernels were then:")
    if as_json:
        click.echo(json.dumps([asdict(kernel) for kernel in kernels], indent=2))
    else:
        print_table(_HEADER, [_row(kernel) for kernel in kernels], _RIGHT)


def _row(kernel: KernelStatus) -> list[str]:
    from popcorn import cpulist

    return [
        str(kernel.id),
        cpulist.format(kernel.cpus),
        kernel.state,
        kernel.reason or kernel.stage if kernel.state in ("dead", "parked") else kernel.stage,
        kernel.health or "-",
        _seconds(kernel.heartbeat_age_s),
        _seconds(kernel.uptime_s),
        f"{kernel.cpu_s:.1f} s" if kernel.heartbeat else "-",
        _mib(kernel.memory_bytes),
        _mib(kernel.free_bytes),
        _mib(kernel.resident_bytes),
        "-" if kernel.beyond_page_array_bytes is None else f"{kernel.beyond_page_array_bytes / (1 << 20):.1f} MiB",
        kernel.release or "-",
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _mib(nr_bytes: int | None) -> str:
    return "-" if nr_bytes is None else f"{nr_bytes >> 20} MiB"
