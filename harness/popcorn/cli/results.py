# SPDX-License-Identifier: Apache-2.0
"""``popcorn results``"""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def results() -> None:
    """Hand what was measured to other programs."""


@results.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option("--csv", "form", flag_value="csv", default=True, help="Comma-separated values.  [default]")
@click.option("--parquet", "form", flag_value="parquet", help="Apache Parquet.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to.  [default: stdout]")
def export(runs: tuple[str, ...], form: str, output: Path | None) -> None:
    """Write all measurements of runs as one table, a measurement a row."""
    from popcorn import progress
    from popcorn.experiment.record import find_run
    from popcorn.run.export import export as write

    count = write([find_run(run) for run in runs], "parquet" if form == "parquet" else "csv", output)
    if output is not None:
        progress.note(f"{count} measurements in {output}")


@results.command()
@click.argument("run", metavar="RUN")
@click.argument("sql", metavar="SQL")
@click.option("--json", "as_json", is_flag=True, help="Print an object a row.")
def query(run: str, sql: str, as_json: bool) -> None:
    """Ask a run's database in SQL (SQLite's).

    Its tables are runs, trials and measurements; nothing can be changed.
    """
    import json

    from popcorn.cli.table import print_table
    from popcorn.experiment.record import find_run
    from popcorn.run.export import query as ask

    header, rows = ask(find_run(run), sql)
    if as_json:
        click.echo(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=2, ensure_ascii=False))
    elif header:
        print_table(header, [["" if value is None else str(value) for value in row] for row in rows])
