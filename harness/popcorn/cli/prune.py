# SPDX-License-Identifier: Apache-2.0
"""``popcorn prune``"""

from __future__ import annotations

import time

import click

_DAY_S = 24 * 3600


@click.command()
@click.option(
    "--unused", "days", type=click.IntRange(min=1), default=30, show_default=True, metavar="DAYS", help="For so long."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
def prune(days: int, dry_run: bool) -> None:
    """Remove from the cache what no command used for long: built things, kernel trees, Python environments.

    All of it is made again when it is wanted. What machines that are up came
    from stays, and so do snapshots and what was measured.
    """
    from popcorn import progress
    from popcorn.build.prune import remove, sweep, unused
    from popcorn.cli.table import print_table
    from popcorn.config.sizes import format_size
    from popcorn.machine import registry

    # A kernel of a machine that is up may be started again, from the files that it was started from.
    ages = [record.clock.now() - record.started + _DAY_S for record in registry.records() if record.status != "dead"]
    found = unused(time.time() - max([days * _DAY_S, *ages]))
    sizes = {one: one.size_bytes for one in found}
    gone = found
    if not dry_run:
        with progress.step("removing what was not used"):
            sweep()
            gone = [one for one in found if remove(one)]
    if gone:
        rows = [
            [one.what, format_size(sizes[one]), time.strftime("%Y-%m-%d", time.localtime(one.used_s)), str(one.path)]
            for one in gone
        ]
        print_table(["WHAT", "SIZE", "USED LAST", "PLACE"], rows, right=frozenset({"SIZE"}))
    total = format_size(sum(sizes[one] for one in gone))
    progress.note(f"{total} {'would go' if dry_run else 'removed'}, in {len(gone)} folders unused for {days} days")
