# SPDX-License-Identifier: Apache-2.0
"""``popcorn log``"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from popcorn.cli.machine_options import name_option

if TYPE_CHECKING:
    from popcorn.machine.timestamps import Entry


@click.command()
@name_option
@click.argument("id", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the machine ends.")
@click.option("--raw", is_flag=True, help="The console's bytes, without timestamps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--run", "run_dir", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Of which run.")
def log(name: str, id: str | None, follow: bool, raw: bool, as_json: bool, run_dir: Path | None) -> None:
    """Show the console of kernel ID with the host's timestamps; `serial` is the primary's serial port.

    Works while the machine runs and after it has died: of the last run of that name.
    Without an ID, list what was recorded.
    """
    from popcorn.machine import registry
    from popcorn.machine.recorded import follow_log, recorded_logs

    folder = run_dir or registry.last_run(name)
    if id is None:
        _list(folder, recorded_logs(folder), as_json)
    elif raw:
        _print_raw(folder, id)
    else:
        stamps = _Printer(as_json)
        for entry in follow_log(folder, id, lambda: follow and registry.is_live(name)):
            stamps.print(entry)
        stamps.end()


class _Printer:
    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._open = False

    def print(self, entry: Entry) -> None:
        if self._as_json:
            click.echo(entry.to_json())
            return
        seconds = int(entry.time_s)
        stamp = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int((entry.time_s - seconds) * 1000):03d} "
        click.echo(("" if self._open else stamp) + entry.text, nl=not entry.more)
        self._open = entry.more

    def end(self) -> None:
        if self._open:
            click.echo()


def _list(folder: Path, names: list[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"run_dir": str(folder), "logs": names}, indent=2))
        return
    click.echo(f"recorded in {folder}:")
    for name in names:
        path = folder / "console" / f"{name}.jsonl"
        click.echo(f"{name:>8}  {path.stat().st_size:>9} bytes")


def _print_raw(folder: Path, id: str) -> None:
    from popcorn.errors import UserError

    path = folder / "serial.log" if id == "serial" else folder / "console" / f"{id}.log"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"nothing was recorded of the console of {id} in {folder}") from None
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
