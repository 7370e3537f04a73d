# SPDX-License-Identifier: Apache-2.0
"""``popcorn gdb``"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import click

from popcorn.cli.machine_options import kernel_ids, name_option


@click.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.option("--print", "as_text", is_flag=True, help="Print gdb's commands, for another debugger; Ctrl-C ends it.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.argument("id")
@click.argument("gdb_arguments", nargs=-1, metavar="[-- GDB-ARGUMENTS]", type=click.UNPROCESSED)
def gdb(name: str, as_text: bool, as_json: bool, id: str, gdb_arguments: tuple[str, ...]) -> int:
    """Attach gdb to kernel ID with its symbols, on its first CPU.

    All kernels stand still while gdb holds one of them: they share the machine. What follows the id goes to gdb, e.g.
    `popcorn gdb 4 -- -batch -ex bt`. Debug information is used if it was built (`popcorn build kernel --debug-info`).
    """
    from popcorn.build.debuginfo import debug_info_of
    from popcorn.diagnose.dump import live_region, target_of
    from popcorn.diagnose.gdb import argv, commands, stub
    from popcorn.errors import HostError, UserError
    from popcorn.machine.machine import attach_up

    program = shutil.which("gdb")
    if program is None and not (as_text or as_json):
        raise HostError("gdb is missing", hint="as root: apt-get install -y --no-install-recommends gdb")
    with attach_up(name) as machine:
        wanted = kernel_ids(id, machine.record.kernels)
        if len(wanted) != 1:
            raise UserError(f"{id!r} names {len(wanted)} kernels", hint="gdb looks at one: name its id")
        target = target_of(machine.run_dir, machine.plan, wanted[0], live_region(machine))
        # Wherever it lies, it must be this build: wrong symbols would lie.
        layout = target.layout(machine.memory)
        vmlinux = debug_info_of(target.booted.key) or target.booted.vmlinux
        with stub(machine) as socket:
            lines = commands(target, vmlinux, socket)
            if as_text or as_json:
                facts = {
                    "kernel": target.id,
                    "cpus": list(target.cpus),
                    "vmlinux": str(vmlinux),
                    "physical": layout.image_physical,
                    "virtual": layout.image_start,
                    "socket": str(socket),
                    "commands": lines,
                }
                click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines))
                _await_interrupt()
                return 0
            assert program is not None
            return _run(argv(program, lines, gdb_arguments))


def _run(command: list[str]) -> int:
    # Ctrl-C is for gdb, which stops the machine by it.
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        # A handler, unlike SIG_IGN, is not inherited.
        return subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _await_interrupt() -> None:
    sys.stdout.flush()
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
