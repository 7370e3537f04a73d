# SPDX-License-Identifier: Apache-2.0
"""``popcorn doctor``"""

from __future__ import annotations

import json
import sys

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(as_json: bool) -> None:
    """Tell the state of this host: packages, QEMU, KVM, memory, disk, caches.

    Ends with 3 if something is missing that Popcorn cannot do without.
    """
    from popcorn.config.sizes import format_size
    from popcorn.doctor import examine

    report = examine()
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        colours = {"ok": "green", "warn": "yellow", "bad": "red"}
        width = max(len(finding.name) for finding in report.findings)
        for finding in report.findings:
            state = click.style(finding.state.ljust(4), fg=colours[finding.state])
            click.echo(f"{state}  {finding.name.ljust(width)}  {finding.detail}")
            if finding.hint and finding.state != "ok":
                click.echo(f"      {' ' * width}  → {finding.hint}")
        for title, places in (
            ("caches, which are made again when they are deleted (not while a machine is up):", report.caches),
            ("what was recorded of runs, which is not:", [report.runs]),
        ):
            click.echo(f"\n{title}")
            for path, size_bytes in places:
                click.echo(f"  {format_size(size_bytes).rjust(12)}  {path}")
    sys.exit(0 if report.healthy else 3)
