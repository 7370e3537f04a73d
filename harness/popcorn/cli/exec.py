# SPDX-License-Identifier: Apache-2.0
"""``popcorn exec``"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from popcorn.cli.machine_options import kernel_ids, name_option

if TYPE_CHECKING:
    from popcorn.guest.finished import Finished
    from popcorn.guest.run import Via
    from popcorn.machine.machine import Machine


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@click.option("--json", "as_json", is_flag=True, help='Print {"ID": {"status", "stdout", "stderr"}}.')
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=1), help="Seconds that the command may take.")
@click.option(
    "--via",
    type=click.Choice(["auto", "net", "vty"]),
    default="auto",
    show_default=True,
    help="The network, the terminal line, or what suits: the line if the network does not work, and for many.",
)
@click.argument("kernels", metavar="ID|all")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(
    context: click.Context,
    name: str,
    as_json: bool,
    timeout_s: float | None,
    via: Via,
    kernels: str,
    command: tuple[str, ...],
) -> None:
    """Run a command in kernel ID, in several (0,8-11), or in all.

    With one kernel, both streams and the exit status are the command's own. With
    several, each line begins with the kernel's id, and the exit status is 0 when all
    commands ended with 0, else 1. Many kernels that were just restored begin a few at
    a time. The words are passed on exactly; for a shell, say
    `popcorn exec ID -- sh -c '...'`.
    """
    from popcorn.errors import UserError
    from popcorn.machine.machine import attach_up

    if command[0] != "--" and command[0].startswith("-"):
        raise UserError(
            f"{command[0]!r} stands where the command begins",
            hint=f"options go before the kernel: popcorn exec [OPTIONS] {kernels} -- COMMAND…; "
            "what stands after -- is the command",
        )
    words = command[1:] if command[0] == "--" else command
    with attach_up(name) as machine:
        wanted = kernel_ids(kernels, machine.record.kernels)
        if len(wanted) == 1 and kernels != "all":
            status = _run_one(machine, wanted[0], words, timeout_s, via, as_json)
        else:
            status = _run_several(machine, wanted, words, timeout_s, via, as_json)
    context.exit(status)


def _run_one(
    machine: Machine, id: int, words: tuple[str, ...], timeout_s: float | None, via: Via, as_json: bool
) -> int:
    from popcorn.guest.run import run_in

    if as_json:
        done = run_in(machine.connections, id, words, timeout_s=timeout_s, via=via)
        click.echo(_as_json({id: done}))
    else:
        done = run_in(machine.connections, id, words, timeout_s=timeout_s, via=via, on_output=_pass_on)
    return done.status


def _pass_on(stream: str, data: bytes) -> None:
    target: BinaryIO = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
    target.write(data)
    target.flush()


def _run_several(
    machine: Machine, wanted: list[int], words: tuple[str, ...], timeout_s: float | None, via: Via, as_json: bool
) -> int:
    from popcorn.guest.run import run_in_several

    finished: dict[int, Finished] = {}
    width = len(str(max(wanted)))
    answers = run_in_several(machine.connections, words, wanted, timeout_s=timeout_s, via=via, together=False)
    for id, done in answers:
        finished[id] = done
        if not as_json:
            _print_prefixed(f"{id:>{width}}: ", done)
    if as_json:
        click.echo(_as_json(finished))
    return 0 if all(done.status == 0 for done in finished.values()) else 1


def _print_prefixed(prefix: str, done: Finished) -> None:
    for line in done.stdout_text.splitlines():
        click.echo(prefix + line)
    for line in done.stderr_text.splitlines():
        click.echo(prefix + line, err=True)
    if done.status:
        click.echo(f"{prefix}[exit status {done.status}]", err=True)


def _as_json(finished: dict[int, Finished]) -> str:
    return json.dumps(
        {
            str(id): {"status": done.status, "stdout": done.stdout_text, "stderr": done.stderr_text}
            for id, done in finished.items()
        },
        indent=2,
    )
