# SPDX-License-Identifier: Apache-2.0
"""``popcorn bisect``"""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.bisect_options import bisect_options
from popcorn.cli.bisect_status import log, print_evidence, status
from popcorn.cli.bisect_task import begin_task, make_plan
from popcorn.errors import HostError, UserError

if TYPE_CHECKING:
    from popcorn.bisect.journal import Journal
    from popcorn.bisect.task import Task


@click.group(invoke_without_command=True)
@click.pass_context
@bisect_options
@click.option("--name", metavar="NAME", help="What the search goes by.  [default: the time]")
@click.option("--resume", is_flag=False, flag_value="", metavar="[NAME]", help="Go on with a search; the latest one.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def bisect(ctx: click.Context, name: str | None, resume: str | None, as_json: bool, **options: Any) -> int | None:
    """Find the change that brought a failure.

    Searched are the patches of the series, by number or name; or with --patches, --tree, --fragment or --parameter
    something else. Each candidate is built, booted from scratch and tested, as often as the failure's flakiness needs;
    what does not build or boot for another reason is left out, what the host loses is run again.

    Every run is kept: a search that was interrupted goes on with --resume.

    \b
    popcorn bisect --good 20 --test test_messages.py
    popcorn bisect --patches my-patches --command 'popcorn-msg ping 0 -n 1000'
    popcorn bisect --tree ~/linux --good v6.12.117 --bad stable/linux-6.12.y --test smoke
    popcorn bisect --fragment my.config --command true
    popcorn bisect --parameter append=nosmt --parameter policy=per-node --command true
    popcorn bisect --good 20 --metric msg.ipis_idle --worse 10%

    Exit status: 0 found, 1 not to be told apart from others, 2 the ends are wrong, 3 the host failed.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from popcorn import hostpackages
    from popcorn.bisect import journal as journals

    if resume is not None:
        _refuse_others(ctx)
    hostpackages.ensure("test" if options["test"] else "up")
    if resume is not None:
        return _conduct(journals.find(resume), as_json=as_json)
    journal = journals.create(name or time.strftime("%Y%m%d-%H%M%S"))
    try:
        begin_task(journal, options)
    except BaseException:
        # Without a task there is nothing to resume.
        shutil.rmtree(journal.folder, ignore_errors=True)
        raise
    return _conduct(journal, as_json=as_json)


bisect.add_command(status)
bisect.add_command(log)


def _refuse_others(ctx: click.Context) -> None:
    """A search goes on as it began."""
    given = [
        one.opts[0]
        for one in ctx.command.params
        if one.name not in ("resume", "as_json")
        and ctx.get_parameter_source(str(one.name)) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise UserError(
            f"--resume goes on with a search as it began: {', '.join(given)} cannot change it",
            hint="leave it out, or begin a search anew",
        )


def _conduct(journal: Journal, *, as_json: bool) -> int:
    from popcorn.bisect.actions import Refused
    from popcorn.bisect.conduct import conduct, open_search
    from popcorn.bisect.tell import Words
    from popcorn.progress import note

    task = journal.task()
    words = Words(journal, task)
    note(words.plan(open_search(journal)))
    try:
        search, answer = conduct(
            journal,
            make_plan,
            before=lambda progress: note(words.before(progress)),
            after=lambda step, run: note(words.after(step, run)),
        )
    except BaseException:
        note(f"all runs so far are kept: `popcorn bisect --resume {journal.name}` goes on")
        raise
    if isinstance(answer, Refused):
        raise (HostError if answer.by_host else UserError)(
            answer.cause, hint=f"{answer.remedy}; the runs are in {journal.folder}"
        )
    commands = words.by_hand(search, answer, _kernels(task, journal, answer.commits, search))
    if as_json:
        told = {"answer": [words.name(commit) for commit in answer.commits], "by_hand": commands}
        click.echo(json.dumps(words.as_json(search, journal.ended()) | told, indent=2))
    else:
        print_evidence(words, journal)
        click.echo("\n".join(words.answer(search, answer)))
        if commands:
            click.echo("by hand:\n" + "\n".join(f"  {command}" for command in commands))
    return 0 if len(answer.commits) == 1 and answer.confirmed else 1


def _kernels(task: Task, journal: Journal, commits: tuple[str, ...], search: Any) -> dict[str, Any]:
    """The kernels that carry the answer; the store has them."""
    from popcorn.bisect.candidate import kernel_of
    from popcorn.bisect.evidence import Stage

    if search.sought.stage is Stage.BUILD or task.test.how == "build":
        return {}
    tried = search.tried()
    wanted = [commits[0] if len(commits) == 1 else search.history.bad]
    wanted += [one for one in search.history.parents(wanted[0]) if one in tried]
    return {one: kernel_of(task, search.history.repository, one) for one in wanted}
