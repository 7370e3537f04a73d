# SPDX-License-Identifier: Apache-2.0
"""``popcorn bisect status`` and ``log``: what the runs of a search told so far."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.bisect.journal import Journal
    from popcorn.bisect.search import Search
    from popcorn.bisect.tell import Words


def print_evidence(words: Words, journal: Journal) -> None:
    """Print what the runs of each candidate told."""
    from popcorn.bisect.conduct import open_search
    from popcorn.cli.table import print_table

    rows = words.evidence(open_search(journal))
    print_table(("candidate", "failed", "others", "lost", "verdict", "latest logs"), rows)
    click.echo(f"logs are in {journal.folder}")


@click.command()
@click.argument("name", default="", metavar="[NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(name: str, as_json: bool) -> None:
    """Tell how far a search is, the latest one unless named."""
    from popcorn.bisect import journal as journals
    from popcorn.bisect.conduct import open_search
    from popcorn.bisect.tell import Words

    journal = journals.find(name)
    words = Words(journal, journal.task())
    search = open_search(journal)
    if as_json:
        click.echo(json.dumps(words.as_json(search, journal.ended()), indent=2))
        return
    click.echo(words.plan(search))
    print_evidence(words, journal)
    ended = journal.ended()
    if ended is None:
        click.echo(_next(journal, words, search))
    elif "found" in ended:
        click.echo("ended: " + ", ".join(words.name(commit) for commit in ended["found"]))  # type: ignore[attr-defined]
    else:
        click.echo(f"ended: {ended.get('refused')}")


def _next(journal: Journal, words: Words, search: Search) -> str:
    from popcorn.bisect.actions import Try
    from popcorn.bisect.conduct import Progress, seconds_left
    from popcorn.bisect.next import next_action

    try:
        # What is next, git tells, whose state is the search's own.
        with journal.held():
            action = next_action(search)
    except UserError:
        return "it is going on"
    if isinstance(action, Try):
        return (
            f"next: {words.before(Progress(action, seconds_left(search, action)))}\n"
            f"`popcorn bisect --resume {journal.name}` goes on"
        )
    return f"`popcorn bisect --resume {journal.name}` ends it"


@click.command()
@click.argument("name", default="", metavar="[NAME]")
def log(name: str) -> None:
    """List the runs of a search, the latest one unless named."""
    from popcorn.bisect import journal as journals
    from popcorn.bisect.conduct import open_search
    from popcorn.bisect.tell import Words

    journal = journals.find(name)
    for line in Words(journal, journal.task()).log(open_search(journal)):
        click.echo(line)
