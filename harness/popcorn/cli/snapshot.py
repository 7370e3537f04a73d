# SPDX-License-Identifier: Apache-2.0
"""``popcorn snapshot``"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.machine_options import name_option

if TYPE_CHECKING:
    from popcorn.snapshot.shelf import Snapshot


class _SaveByDefault(click.Group):
    """A first word that is none of the commands is the name of a snapshot to save."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            args = ["save", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # `snapshot --name MACHINE NAME` means the same as `snapshot NAME --name MACHINE`.
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["save", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_SaveByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def snapshot() -> None:
    """Save a machine that is up, with all its kernels: `popcorn snapshot NAME`.

    `popcorn up --from NAME` goes on from there, as often as you like. `popcorn
    up` by itself saves each machine that it booted, and goes on from that when
    it is asked for the same again; such snapshots are removed, those not used
    for longest first, when they take more than $POPCORN_SNAPSHOT_LIMIT (4GiB;
    0 for none).
    """


@snapshot.command()
@name_option
@click.argument("snapshot_name", metavar="NAME")
def save(snapshot_name: str, name: str) -> None:
    """Save a machine under a name; the word `save` may be left out.

    It stands still meanwhile, for a second or some, and goes on afterwards.
    Connections from the host are no part of what is saved.
    """
    from popcorn import progress
    from popcorn.config.sizes import format_size
    from popcorn.errors import UserError
    from popcorn.machine.machine import attach_up
    from popcorn.snapshot.save import save as save_machine
    from popcorn.snapshot.shelf import path_of

    taken = UserError(
        f"there is a snapshot {snapshot_name!r} already",
        hint=f"remove it with `popcorn snapshot rm {snapshot_name}`, or choose another name",
    )
    path = path_of(snapshot_name)
    if path.exists():
        raise taken
    with attach_up(name) as machine:
        with progress.step(f"saving the machine {name!r}"):
            if not save_machine(machine, snapshot_name):
                raise taken
        click.echo(
            f"{snapshot_name}: machine {name!r}, {len(machine.record.kernels)} kernel(s), "
            f"{format_size(path.stat().st_size)}"
        )


@snapshot.command()
@click.option("--all", "every", is_flag=True, help="Also those that `popcorn up` made by itself.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def ls(every: bool, as_json: bool) -> None:
    """List the snapshots."""
    from popcorn import progress
    from popcorn.cli.table import print_table
    from popcorn.snapshot.shelf import snapshots

    found = [*snapshots("named"), *(snapshots("automatic") if every else ())]
    if as_json:
        click.echo(json.dumps([_fields(one) for one in found], indent=2))
        return
    print_table(
        ["NAME", "KIND", "MACHINE", "POLICY", "KERNELS", "SIZE", "SAVED", "USED", "NOTE"],
        [_row(one) for one in found],
        frozenset({"KERNELS", "SIZE"}),
    )
    if not found:
        progress.note("there are no snapshots; `popcorn snapshot NAME` saves a machine that is up")


@snapshot.command()
@click.option("--all", "every", is_flag=True, help="All, those that `popcorn up` made by itself too.")
@click.argument("names", nargs=-1, metavar="[NAME]…")
def rm(names: tuple[str, ...], every: bool) -> None:
    """Remove snapshots."""
    from popcorn.errors import UserError
    from popcorn.snapshot.shelf import Kind, remove, snapshots

    if bool(names) == every:
        raise UserError("name the snapshots to remove, or give --all", hint="`popcorn snapshot ls` lists them")
    kinds: tuple[Kind, ...] = ("named", "automatic")
    doomed = [(one.name, one.kind) for kind in kinds for one in snapshots(kind)] if every else []
    by_name: dict[str, Kind] = {one.name: one.kind for kind in reversed(kinds) for one in snapshots(kind)}
    for name, kind in doomed or [(name, by_name.get(name, "named")) for name in names]:
        remove(name, kind)
        click.echo(f"{name}: removed")


def _fields(one: Snapshot) -> dict[str, Any]:
    header = one.header
    return {
        "name": one.name,
        "kind": one.kind,
        "path": str(one.path),
        "size_bytes": one.size_bytes,
        "used": one.used,
        "trouble": one.trouble,
        "machine": header.machine if header else None,
        "policy": header.policy if header else None,
        "kernels": header.kernels if header else None,
        "saved": header.saved if header else None,
        "inputs": header.inputs if header else None,
    }


def _row(one: Snapshot) -> list[str]:
    from popcorn.config.sizes import format_size

    header = one.header
    known = [header.machine, header.policy, str(len(header.kernels))] if header else ["", "", ""]
    saved = _time(header.saved) if header else ""
    return [one.name, one.kind, *known, format_size(one.size_bytes), saved, _time(one.used), one.trouble]


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
