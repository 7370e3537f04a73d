# SPDX-License-Identifier: Apache-2.0
"""``popcorn probe``"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.config import Machine


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Read DIR/sys and DIR/proc, e.g. a copy from another machine.  [default: /]",
)
@click.option("--name", metavar="NAME", help="Look from the primary of this machine, which is up.")
@click.option("--as", "called", default="probed", show_default=True, metavar="NAME", help="What to call the result.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of TOML.")
def probe(root: Path | None, name: str | None, called: str, output: Path | None, as_json: bool) -> None:
    """Describe the machine that a running Linux is on.

    That Linux is this host's, or a guest's. The result can be given to
    plan --machine. As root, it is read from the firmware's tables, which tell
    of the whole machine, even on a kernel that owns a part of it.
    """
    from popcorn.config.write import machine_toml
    from popcorn.files import write_atomic
    from popcorn.plan.probe import probe as probe_tree

    if root is not None and name is not None:
        raise UserError("--root and --name name two Linuxes", hint="give one of them")
    machine = probe_tree(root or Path("/"), called) if name is None else _probe_guest(name, called)
    text = machine.model_dump_json(indent=2, exclude_none=True) + "\n" if as_json else machine_toml(machine)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomic(output, text)


def _probe_guest(name: str, called: str) -> Machine:
    from popcorn.guest.run import run_in
    from popcorn.machine.machine import attach_up
    from popcorn.plan import collect
    from popcorn.plan.probe import probe as probe_tree

    with attach_up(name) as guest, tempfile.TemporaryDirectory(prefix="popcorn-probe-") as tree:
        done = run_in(guest.connections, guest.plan.primary.id, ["sh", "-c", collect.script()], timeout_s=120)
        collect.unpack(done.stdout_text, Path(tree))
        return probe_tree(Path(tree), called)
