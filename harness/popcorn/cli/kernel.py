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
    help="Kernel source, instead of Debian's package or kernel.org's release.",
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


@kernel.command()
@_series_option
@_source_option
@click.option("--quick", is_flag=True, help="Build only the whole series, not every prefix of it.")
@click.option("--fresh", is_flag=True, help="Check again what passed before.")
@click.option("--record", is_flag=True, help="When all passes, write the base's version into base.toml as tested.")
@click.option("-j", "--jobs", default=0, metavar="N", help="Compilers at once; default: one a CPU.")
@_json_option
def verify(series: str, source: Path | None, quick: bool, fresh: bool, record: bool, jobs: int, as_json: bool) -> None:
    """Prove that the series holds.

    It applies; every prefix builds; checkpatch --strict and sparse are content; with CONFIG_POPCORN=n the kernel's
    objects are those of the base. What passed before and has not changed is not checked again.
    """
    from popcorn import hostpackages
    from popcorn.build.checks import Check
    from popcorn.build.series import load_series
    from popcorn.build.verify import record_tested
    from popcorn.build.verify import verify as prove
    from popcorn.errors import CheckFailed

    hostpackages.ensure("kernel")

    def told(check: Check) -> None:
        if not as_json:
            verdict = "ok    " if check.passed else "FAILED"
            when = "before" if check.remembered else f"{check.elapsed_s:.1f} s"
            said = check.said.replace("\n", "\n         ")
            click.echo(f"{verdict} {check.name}: {check.subject} ({when})" + (f"\n         {said}" if said else ""))

    result = prove(series, source, quick=quick, fresh=fresh, jobs=jobs, told=told)
    if as_json:
        click.echo(result.to_json())
    failed = [check for check in result.checks if not check.passed]
    if failed:
        raise CheckFailed(
            f"the series {series} does not hold on {result.base}: {len(failed)} of {len(result.checks)} checks failed "
            f"(first: {failed[0].name}, {failed[0].subject})"
        )
    if record and not quick and record_tested(load_series(series), result.base):
        click.echo(f"recorded {result.base} as tested in base.toml", err=True)
