# SPDX-License-Identifier: Apache-2.0
"""``popcorn report``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", required=False, metavar="[RUN]")
def report(run: str | None) -> None:
    """Write the report of a run and print its path.

    RUN is a folder, or the name of one among the recorded runs; the last one that
    was measured if not given.
    """
    from popcorn.report.page import write_report

    click.echo(write_report(_find(run)))


def _find(run: str | None) -> Path:
    from popcorn.dirs import runs_dir
    from popcorn.errors import UserError
    from popcorn.run.manifest import MANIFEST_FILE

    runs = runs_dir()
    if run is None:
        # Names begin with the time.
        measured = sorted(path.parent for path in runs.glob(f"*/{MANIFEST_FILE}"))
        if not measured:
            raise UserError(f"no run in {runs} was measured", hint="`popcorn demo` and `popcorn bench boot` measure")
        return measured[-1]
    for path in (Path(run), runs / run):
        if path.is_dir():
            return path.resolve()
    raise UserError(f"there is no run {run!r}", hint=f"runs are folders in {runs}")
