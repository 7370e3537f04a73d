# SPDX-License-Identifier: Apache-2.0
"""``popcorn report``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN…]")
@click.option("--compare", metavar="RUN", help="Set another run of an experiment beside them.")
def report(runs: tuple[str, ...], compare: str | None) -> None:
    """Write the report of a run and print its path.

    RUN is a folder, or the name of one among the recorded runs; the last one that
    was measured if not given. Several runs of experiments (`popcorn run`) stand on
    one page, in the folder of the first.
    """
    from popcorn.errors import UserError
    from popcorn.experiment.record import RECORD_FILE, find_run
    from popcorn.report.experiment import write_experiment_report
    from popcorn.report.page import write_report

    found = [find_run(run) for run in runs] or [_last()]
    others = [path for path in found if not (path / RECORD_FILE).is_file()]
    if not others:
        click.echo(write_experiment_report(found, find_run(compare) if compare is not None else None))
        return
    if len(found) > 1 or compare is not None:
        raise UserError(
            f"{others[0]} is no run of an experiment: it has a page of its own",
            hint="name it alone, or only runs of `popcorn run`",
        )
    click.echo(write_report(found[0]))


def _last() -> Path:
    from popcorn.dirs import runs_dir
    from popcorn.errors import UserError
    from popcorn.experiment.record import RECORD_FILE
    from popcorn.run.manifest import MANIFEST_FILE

    runs = runs_dir()
    # Names begin with the time.
    measured = sorted(path.parent for name in (MANIFEST_FILE, RECORD_FILE) for path in runs.glob(f"*/{name}"))
    if not measured:
        raise UserError(
            f"no run in {runs} was measured", hint="`popcorn demo`, `popcorn bench` and `popcorn run` measure"
        )
    return measured[-1]
