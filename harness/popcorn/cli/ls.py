# SPDX-License-Identifier: Apache-2.0
"""``popcorn ls``"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from popcorn.machine.registry import Record


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def ls(as_json: bool) -> None:
    """List the machines: those that are up, and those that died and were not taken down since."""
    from popcorn import progress
    from popcorn.cli.table import print_table
    from popcorn.machine import registry

    records = registry.records()
    if as_json:
        hidden = {"nodes", "header", "region_start", "region_size", "hole_start"}
        rows = [{key: value for key, value in asdict(record).items() if key not in hidden} for record in records]
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ["NAME", "STATUS", "MACHINE", "POLICY", "KERNELS", "ACCEL", "AGE", "QEMU", "NOTE"],
        [
            [
                record.name,
                record.status,
                record.machine,
                record.policy,
                str(len(record.kernels)),
                record.accel,
                f"{record.clock.now() - record.started:.0f} s" if record.started and record.status != "dead" else "",
                str(record.qemu_pid) if record.status != "dead" else "",
                record.reason or _note(record),
            ]
            for record in records
        ],
    )
    if not records:
        progress.note("no machine is up; `popcorn up` starts one")
    dead = [record.name for record in records if record.status == "dead"]
    if dead:
        progress.note(
            f"`popcorn down --name {dead[0]}` takes a dead machine off this list; what was recorded of it stays"
        )


def _note(record: Record) -> str:
    tied = "tied to its command" if record.tied else ""
    restored = f"from snapshot {record.restored_from}" if record.saved else ""
    return ", ".join(filter(None, [tied, restored]))
