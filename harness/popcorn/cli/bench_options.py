# SPDX-License-Identifier: Apache-2.0
"""What ``popcorn bench messages`` and ``popcorn bench network`` share: options, and how goals are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

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


def print_goals(measurements: Sequence[Measurement]) -> None:
    """A table of the goals and what was found; a missed one changes no exit status: this measures."""
    from popcorn.cli.table import print_table
    from popcorn.run.goals import judge

    verdicts = judge(measurements)
    rows = [[one.goal.text, str(one.measured), str(one.goal), "yes" if one.met else "NO"] for one in verdicts]
    print_table(["FIGURE", "MEASURED", "GOAL", "MET"], rows)
    missed = sum(not one.met for one in verdicts)
    click.echo(f"{missed} of {len(verdicts)} goals missed" if missed else f"all {len(verdicts)} goals met")


def print_json(measurements: Sequence[Measurement], report: Path) -> None:
    """All measurements and the verdicts on the goals, as one object."""
    from popcorn.run.goals import judge

    goals = [
        {
            "metric": one.goal.metric,
            "relation": one.goal.relation,
            "bound": one.goal.bound,
            "met": one.met,
            **asdict(one.measured),
        }
        for one in judge(measurements)
    ]
    document = {"goals": goals, "measurements": [asdict(one) for one in measurements], "report": str(report)}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
