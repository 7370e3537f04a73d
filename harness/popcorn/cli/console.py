# SPDX-License-Identifier: Apache-2.0
"""``popcorn console``"""

from __future__ import annotations

import sys

import click

from popcorn.cli.machine_options import name_option


@click.command()
@name_option
@click.argument("id", type=int, default=0)
def console(name: str, id: int) -> None:
    """Log in to kernel ID (the primary if not given).

    The primary's terminal is its serial port, the others' is the line between them
    and the primary. Type ~. at the beginning of a line to leave, ~~ for one tilde.
    """
    from popcorn.guest.console import interact
    from popcorn.machine.machine import attach_up

    with attach_up(name) as machine:
        if sys.stdin.isatty():
            print(f"[kernel {id} of {name}; Enter ~ . leaves]", file=sys.stderr)
        interact(machine, id)
        if sys.stdin.isatty():
            print("\r\n[left]", file=sys.stderr)
