# SPDX-License-Identifier: Apache-2.0
"""``popcorn compare``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("base", metavar="BASE")
@click.argument("new", metavar="NEW")
@click.option(
    "--thresholds",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Rules in TOML that come before the shipped ones.",
)
@click.option("--all", "everything", is_flag=True, help="Also what is shown only and never judged.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def compare(base: str, new: str, thresholds: Path | None, everything: bool, as_json: bool) -> int:
    """Tell whether the run NEW is worse than the run BASE.

    Both are folders, or names of recorded runs, of `popcorn run` or `popcorn bench`. What kernels count is judged by
    its mean; a time is called worse if all of its interval lies beyond what is allowed, and if both runs are of one
    host, with KVM, and of several boots (`run --boots`). By how much something may be worse is in
    popcorn/gate/thresholds.toml, which tells how to write a FILE.

    Exit status: 0 no regression, 1 at least one.
    """
    import json

    from popcorn.cli.table import print_table
    from popcorn.experiment.record import find_run
    from popcorn.gate.compare import compare as compared
    from popcorn.gate.compare import idle_rules
    from popcorn.gate.measured import read_measured
    from popcorn.gate.tell import HEADER, NUMBERS, conclusion, rows
    from popcorn.gate.tell import as_json as told
    from popcorn.gate.thresholds import load_thresholds
    from popcorn.progress import note

    rules = load_thresholds(thresholds)
    found = compared(read_measured(find_run(base)), read_measured(find_run(new)), rules)
    found.require_common()
    for pattern in idle_rules([found], rules):
        note(f"the rule for {pattern!r} in {thresholds} fits nothing that was measured; --all lists what was")
    if as_json:
        click.echo(json.dumps(told(found), indent=2, ensure_ascii=False))
    else:
        print_table(list(HEADER), rows(found.findings, everything=everything), NUMBERS)
        click.echo(conclusion(found))
    return 1 if found.regressions else 0
