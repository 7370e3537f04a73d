# SPDX-License-Identifier: Apache-2.0
"""``popcorn kernel``"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

_DEFAULT_TREE = Path("linux-popcorn")

_source_option = click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="TREE|TARBALL",
    help="Kernel source to use instead of Debian's package.",
)
_series_option = click.option("--series", default="6.12", show_default=True, help="Which kernel series.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_directory_argument = click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), default=_DEFAULT_TREE, metavar="[DIR]"
)


@click.group()
def kernel() -> None:
    """Work on the kernel patches.

    The patch files are the source of truth. `checkout` turns them into a git tree, `refresh` writes its commits back,
    `verify` proves that the series holds.
    """


@kernel.command()
@_directory_argument
@_series_option
@_source_option
@_json_option
def checkout(directory: Path, series: str, source: Path | None, as_json: bool) -> None:
    """Make DIR (linux-popcorn) a git tree with the series as commits."""
    from popcorn.build.checkout import checkout as make

    applied = make(directory, series, source)
    if as_json:
        facts = {"dir": str(directory.resolve()), "base": asdict(applied.base), "commits": list(applied.commits)}
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(f"{directory}: Linux {applied.base.version} and {len(applied.commits)} patches")


@kernel.command()
@_directory_argument
@_json_option
def refresh(directory: Path, as_json: bool) -> None:
    """Write the commits in DIR (linux-popcorn) back as patch files."""
    from popcorn.build.checkout import refresh as write_back

    done = write_back(directory)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
        return
    for name in done.changed:
        click.echo(f"written  {name}")
    for name in done.removed:
        click.echo(f"removed  {name}")
    if not done.changed and not done.removed:
        click.echo(f"nothing changed ({len(done.patches)} patches)")
