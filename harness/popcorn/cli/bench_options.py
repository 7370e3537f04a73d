# SPDX-License-Identifier: Apache-2.0
"""What ``popcorn bench messages`` and ``popcorn bench network`` share: options, and how results are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from popcorn.errors import CheckFailed

if TYPE_CHECKING:
    from popcorn.run.results import Measurement

F = TypeVar("F", bound=Callable[..., Any])


def bench_options(repeat: int) -> Callable[[F], F]:
    """Give a command the options of a benchmark that repeats itself so many times."""

    def give(command: F) -> F:
        for option in reversed(
            (
                click.option("--name", default="bench", show_default=True, metavar="NAME", help="The machine's name."),
                click.option(
                    "--repeat", default=repeat, show_default=True, type=click.IntRange(min=1), help="Rounds of all."
                ),
                click.option("--series", default="6.12", show_default=True, help="Which kernel series."),
                click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True),
                click.option("--json", "as_json", is_flag=True, help="Print as JSON."),
            )
        ):
            command = option(command)
        return command

    return give


def tell(measurements: Sequence[Measurement], report: Path, *, as_json: bool) -> None:
    """Print tables or JSON. A missed goal changes no exit status: this measures.

    Raises:
        CheckFailed: there are measurements without a value.
    """
    from popcorn.run.attempt import FAILURES_FILE

    if as_json:
        _print_json(measurements, report)
    else:
        _print_tables(measurements)
        click.echo(f"report: {report}")
    missing = [one.metric for one in measurements if one.status != "ok"]
    if missing:
        raise CheckFailed(
            f"{len(missing)} of {len(measurements)} measurements have no value: {', '.join(sorted(set(missing)))}",
            hint=f"see {report.parent / FAILURES_FILE}" if (report.parent / FAILURES_FILE).exists() else "",
        )


def _print_tables(measurements: Sequence[Measurement]) -> None:
    from popcorn.cli.table import print_table
    from popcorn.report.benchtables import bench_tables
    from popcorn.run.goals import judge

    for table in bench_tables(measurements):
        print_table([cell.upper() for cell in table.header], table.rows)
        click.echo()
    verdicts = judge(measurements)
    missed = sum(not one.met for one in verdicts)
    click.echo(f"{missed} of {len(verdicts)} goals missed" if missed else f"all {len(verdicts)} goals met")


def _print_json(measurements: Sequence[Measurement], report: Path) -> None:
    """All measurements and the verdicts on the goals, as one object."""
    from popcorn.run.goals import judge

    goals = [
        {
            "metric": one.goal.metric,
            "relation": one.goal.relation,
            "bound": one.goal.bound,
            "met": one.met,
            **(asdict(one.measured) if one.measured else {}),
        }
        for one in judge(measurements)
    ]
    document = {"goals": goals, "measurements": [asdict(one) for one in measurements], "report": str(report)}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
