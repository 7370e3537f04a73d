# SPDX-License-Identifier: Apache-2.0
"""``popcorn down``"""

from __future__ import annotations

import click

from popcorn.cli.machine_options import name_option


@click.command()
@name_option
@click.option("--all", "every", is_flag=True, help="End all machines.")
def down(name: str, every: bool) -> None:
    """End a machine. What was recorded of it stays."""
    from popcorn.machine import registry
    from popcorn.machine.machine import Machine

    for record in registry.records() if every else [registry.find(name)]:
        if record.status == "dead":
            registry.forget(record.name)
            click.echo(f"{record.name}: was dead: {record.reason}")
        else:
            Machine(record).down()
            click.echo(f"{record.name}: down")
