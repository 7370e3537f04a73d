# SPDX-License-Identifier: Apache-2.0
"""``popcorn probe``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default="/",
    metavar="DIR",
    help="Read DIR/sys and DIR/proc, e.g. a copy from another machine.",
)
@click.option("--name", default="probed", metavar="NAME", help="What to call the machine.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of TOML.")
def probe(root: Path, name: str, output: Path | None, as_json: bool) -> None:
    """Describe the machine that a running Linux is on.

    The result can be given to plan --machine. As root, it is read from the
    firmware's tables, which tell of the whole machine.
    """
    from popcorn.config.write import machine_toml
    from popcorn.files import write_atomic
    from popcorn.plan.probe import probe as probe_tree

    machine = probe_tree(root, name)
    text = machine.model_dump_json(indent=2, exclude_none=True) + "\n" if as_json else machine_toml(machine)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomic(output, text)
