# SPDX-License-Identifier: Apache-2.0
"""``popcorn start``, ``stop``, ``kill`` and ``restart``"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from popcorn.cli.machine_options import kernel_ids, name_option

if TYPE_CHECKING:
    from popcorn.guest.launching import Change
    from popcorn.machine.machine import Machine

_F = TypeVar("_F", bound=Callable[..., Any])

_kernels = click.argument("kernels", metavar="ID|all")
_json = click.option("--json", "as_json", is_flag=True, help="Print the kernels as `popcorn ps --json` does.")
_by = click.option("--by", type=int, metavar="ID", help="The kernel that does it.  [default: the primary]")


def _change_options(function: _F) -> _F:
    for option in (
        click.option("--append", "parameters", metavar="WORDS", default="", help="More words for the command line."),
        click.option("--initrd", type=click.Path(path_type=Path), help="Unpack this instead."),
        click.option("--vmlinux", type=click.Path(path_type=Path), help="Run this instead."),
        click.option("--flavour", metavar="FLAVOUR", help="Likewise.  [default: default]"),
        click.option("--series", metavar="SERIES", help="Run a kernel of this series instead."),
        click.option("--no-wait", is_flag=True, help="Return when they are started, not when they are up."),
    ):
        function = option(function)
    return function


@click.command()
@name_option
@_by
@_change_options
@_json
@_kernels
def start(name: str, kernels: str, by: int | None, no_wait: bool, as_json: bool, **change: Any) -> None:
    """Start kernel ID of a machine that is up, or several (2,5-7), or all that do not run.

    They run what the machine was booted with, unless an option says otherwise; that holds for
    this life of theirs.
    """
    from popcorn.guest import life
    from popcorn.machine.machine import attach_up

    with attach_up(name) as machine:
        wanted = _secondaries(machine, kernels)
        if kernels == "all":
            wanted = [id for id in wanted if not _runs(machine, id)]
        if wanted:
            life.start(machine, wanted, by=by, change=_changed(machine, **change), wait=not no_wait)
        _tell(machine, wanted, as_json)


@click.command()
@name_option
@_json
@_kernels
def stop(name: str, kernels: str, as_json: bool) -> None:
    """End kernel ID in good order, or several (2,5-7), or all but the primary: their processes, then they park.

    A kernel that does nothing any more is ended by `popcorn kill`. On a machine that was booted by
    the policy hotplug the primary takes what they had; `popcorn start` gives it away again.
    """
    from popcorn.guest import life
    from popcorn.machine.machine import attach_up

    with attach_up(name) as machine:
        wanted = _secondaries(machine, kernels)
        life.stop(machine, wanted)
        _tell(machine, wanted, as_json)


@click.command()
@name_option
@_by
@_json
@_kernels
def kill(name: str, kernels: str, by: int | None, as_json: bool) -> None:
    """Take the CPUs of kernel ID back, or of several, or all but the primary, whatever they do.

    Nobody asks the kernel and nothing is saved. When the command returns, its CPUs execute
    nothing any more, or are the primary's as after `popcorn stop`.
    """
    from popcorn.guest import life
    from popcorn.machine.machine import attach_up

    with attach_up(name) as machine:
        wanted = [id for id in _secondaries(machine, kernels) if id != by or kernels != "all"]
        life.kill(machine, wanted, by=by)
        _tell(machine, wanted, as_json)


@click.command()
@name_option
@_by
@click.option("--force", is_flag=True, help="Kill it rather than stop it.")
@_change_options
@_json
@_kernels
def restart(name: str, kernels: str, by: int | None, force: bool, no_wait: bool, as_json: bool, **change: Any) -> None:
    """End kernel ID, or several (2,5-7), or all but the primary, and start them again; options as for `start`."""
    from popcorn.guest import life
    from popcorn.machine.machine import attach_up

    with attach_up(name) as machine:
        wanted = _secondaries(machine, kernels)
        # Before anything is ended: what cannot be started again goes on.
        changed = _changed(machine, **change)
        life.restart(machine, wanted, force=force, by=by, change=changed, wait=not no_wait)
        _tell(machine, wanted, as_json)


def _secondaries(machine: Machine, kernels: str) -> list[int]:
    wanted = kernel_ids(kernels, machine.record.kernels)
    return [id for id in wanted if id != machine.plan.primary.id] if kernels == "all" else wanted


def _runs(machine: Machine, id: int) -> bool:
    slot = machine.region().slot(id)
    return slot.state not in ("none", "loaded") and not slot.ended


def _changed(
    machine: Machine,
    *,
    series: str | None,
    flavour: str | None,
    vmlinux: Path | None,
    initrd: Path | None,
    parameters: str,
) -> Change:
    from popcorn.guest.launching import Change
    from popcorn.machine.assemble import Choice, replacement

    choice = None
    if series or flavour:
        usual = Choice()
        choice = Choice(series or usual.series, flavour or usual.flavour)
    if choice is None and vmlinux is None and initrd is None:
        return Change(parameters=parameters)
    header = Path(machine.record.header)
    kernel, image, overlay = replacement(machine.plan, choice, header, vmlinux=vmlinux, initrd=initrd)
    return Change(kernel, image, overlay, parameters)


def _tell(machine: Machine, ids: list[int], as_json: bool) -> None:
    kernels = [kernel for kernel in machine.ps() if kernel.id in ids]
    if as_json:
        click.echo(json.dumps([asdict(kernel) for kernel in kernels], indent=2))
        return
    for kernel in kernels:
        why = f": {kernel.reason}" if kernel.reason else ""
        release = f", {kernel.release}" if kernel.release and kernel.state == "running" else ""
        click.echo(f"kernel {kernel.id}: {kernel.state}{why}{release} (life {kernel.generation})")
