# SPDX-License-Identifier: Apache-2.0
"""``popcorn plan``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popcorn.cli.plan_options import chosen_plan, plan_options


@click.command()
@plan_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the picture as SVG."
)
def plan(as_json: bool, svg: Path | None, **options: Any) -> None:
    """Cut a machine into partitions, one kernel each, and show the result.

    Nothing is started. The JSON can be edited and given back with --plan.
    """
    from popcorn.plan import draw

    made = chosen_plan(**options)
    if svg is not None:
        from popcorn.files import write_atomic

        write_atomic(svg, draw.to_svg(made))
    if as_json:
        click.echo(made.to_json(), nl=False)
    else:
        draw.print_plan(made)
