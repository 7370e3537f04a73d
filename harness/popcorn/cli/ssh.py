# SPDX-License-Identifier: Apache-2.0
"""``popcorn ssh``"""

from __future__ import annotations

import sys

import click

from popcorn.cli.machine_options import name_option


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.argument("id", type=int)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def ssh(context: click.Context, name: str, id: int, command: tuple[str, ...]) -> None:
    """Log in to kernel ID over the network, or run a command there with our stdin.

    The primary is the gateway. Type ~. at the beginning of a line to leave a shell. The
    words of a command are passed on exactly, and its exit status is ours. `popcorn
    console` needs no network, `popcorn exec` reaches many kernels.
    """
    from popcorn.guest.login import log_in, run_joined
    from popcorn.machine.machine import attach_up

    words = command[1:] if command[:1] == ("--",) else command
    with attach_up(name) as machine:
        connection = machine.ssh(id)
        if not words and sys.stdin.isatty():
            log_in(connection)
        else:
            context.exit(run_joined(connection, words))
