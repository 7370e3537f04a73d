# SPDX-License-Identifier: Apache-2.0
"""``popcorn ci``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--suite", "suites", multiple=True, metavar="PATH", help="Tests: a file, a folder or a node id; repeat it."
)
@click.option("-k", "expression", default="", metavar="EXPR", help="Of these tests those that fit, as for pytest.")
@click.option("--no-tests", is_flag=True, help="Run no tests.")
@click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="As of `popcorn run`.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="The --output of an earlier run, to be compared with.",
)
@click.option("--thresholds", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="As of `compare`.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="For results.  [default: a new run]")
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The summary's, in Markdown, too.",
)
@click.option("--series", default="6.12", show_default=True, help="Of the kernel that is built and measured.")
@click.option("--flavour", default="default", show_default=True, help="Of the kernel that is built.")
@click.option("--source", type=click.Path(path_type=Path), metavar="TREE|TARBALL", help="Kernel source, for the build.")
@click.option("--repeats", type=click.IntRange(min=0), default=5, show_default=True, help="Of a test that failed.")
@click.option("--retries", type=click.IntRange(min=0), default=2, show_default=True, help="Of what the host lost.")
@click.option("-n", "workers", default="auto", show_default=True, metavar="N", help="Tests at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print ci.json.")
def ci(output: Path | None, summary: Path | None, no_tests: bool, as_json: bool, **options: Any) -> int:
    """Build, test, measure, compare, and write one summary: what a CI job does.

    Without --suite the tests are those that come with Popcorn. A test that failed is repeated on fresh machines: one
    that fails now and then is flaky, with its rate and a 95 % interval. A run that the host lost is taken again, and
    never blamed on the kernel. Experiments are compared with those of --baseline.

    The summary goes to DIR/summary.md, to --summary, and to the end of $GITHUB_STEP_SUMMARY where that is set. DIR
    also gets JUnit reports, logs of failed tests and all runs. SIGTERM ends everything within seconds; what had ended
    by then is in the summary, which says that it is partial.

    \b
    Exit status: 0  fine
                 1  regression: a test fails, a metric is worse, it does not build
                 2  your mistake
                 3  infrastructure failure, and no regression seen
                 4  flaky, and nothing worse
    """
    from popcorn import hostpackages
    from popcorn.ci.conduct import Conductor
    from popcorn.ci.job import Wanted, check, claim
    from popcorn.ci.record import RECORD_FILE, SUMMARY_FILE
    from popcorn.testing.collect import require_tests

    wanted = Wanted(**options, tests=not no_tests)
    job = check(wanted, output, summary)
    hostpackages.ensure("build")
    hostpackages.ensure("test")
    if wanted.tests:
        require_tests(job.selection, cwd=job.cwd)
    claim(job)
    conductor = Conductor(job)
    try:
        found = conductor()
    finally:
        _hand_out(job.folder / SUMMARY_FILE, summary)
    if as_json:
        click.echo((job.folder / RECORD_FILE).read_text(encoding="utf-8"), nl=False)
    else:
        click.echo((job.folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        click.echo(f"results: {job.folder}")
    return found.status()


def _hand_out(page: Path, target: Path | None) -> None:
    """Bring the summary to where it is wanted, whatever it says; what it says counts, also if that cannot be done."""
    import os

    from popcorn.files import write_atomic
    from popcorn.progress import note

    if not page.is_file():
        return
    text = page.read_text(encoding="utf-8")
    try:
        if target is not None:
            write_atomic(target, text)
        # Of GitHub's runners: other steps write there as well.
        if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(step_summary).open("a", encoding="utf-8") as out:
                out.write(f"{text}\n")
    except OSError as error:
        note(f"the summary stands in {page} alone: {error.filename or target}: {error.strerror}")
