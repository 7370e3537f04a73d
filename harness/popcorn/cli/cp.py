# SPDX-License-Identifier: Apache-2.0
"""``popcorn cp``"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from popcorn.cli.machine_options import name_option
from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.guest.copy import Told
    from popcorn.machine.machine import Machine


@dataclass(frozen=True)
class Place:
    """A path in a kernel, or on this host if there is no kernel."""

    kernel: int | None
    path: str


@click.command()
@name_option
@click.argument("source", metavar="[ID:]SOURCE")
@click.argument("target", metavar="[ID:]TARGET")
def cp(name: str, source: str, target: str) -> None:
    """Copy a file to a kernel, from a kernel, or from one to another.

    It goes over the network and keeps its permissions; the sha256 of both ends is
    compared before it gets its name. Where TARGET is a folder, it keeps its name;
    what a symbolic link names is written, not the link. Only regular files are copied.
    A local name with a colon is written as ./NAME.
    """
    from popcorn import progress
    from popcorn.config.sizes import format_size
    from popcorn.machine.machine import attach_up

    begin, end = parse_place(source), parse_place(target)
    if begin.kernel is None and end.kernel is None:
        raise UserError(
            f"neither {source!r} nor {target!r} is in a kernel",
            hint="write the kernel's id before one of them, as in 5:/tmp/file",
        )
    with attach_up(name) as machine, progress.step(f"copying {source} to {target}") as step:
        _copy(
            machine,
            begin,
            end,
            lambda nr_bytes, total: step.update(f"{format_size(nr_bytes)} of {format_size(total)}"),
        )


def parse_place(text: str) -> Place:
    """``ID:PATH``, or a path on this host.

    Raises:
        UserError: the path is empty.
    """
    found = re.fullmatch(r"(\d+):(.*)", text, re.DOTALL)
    place = Place(int(found[1]), found[2]) if found else Place(None, text)
    if not place.path:
        raise UserError(f"there is no path in {text!r}", hint="as in 5:/tmp/file")
    return place


def _copy(machine: Machine, source: Place, target: Place, told: Told) -> None:
    from popcorn.guest.copy import fetch_file, send_file

    if source.kernel is None:
        assert target.kernel is not None, "one of them is in a kernel"
        send_file(machine.ssh(target.kernel), Path(source.path), target.path, told)
    elif target.kernel is None:
        fetch_file(machine.ssh(source.kernel), source.path, target.path, told)
    else:
        with tempfile.TemporaryDirectory(prefix="popcorn-cp-") as folder:
            between = Path(folder) / "file"
            fetch_file(machine.ssh(source.kernel), source.path, between, told)
            name = PurePosixPath(source.path).name
            send_file(machine.ssh(target.kernel), between, target.path, told, name=name)
