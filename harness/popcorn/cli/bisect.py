# SPDX-License-Identifier: Apache-2.0
"""``popcorn bisect``"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.plan_options import chosen_plan
from popcorn.errors import HostError, UserError

if TYPE_CHECKING:
    from popcorn.bisect.journal import Journal
    from popcorn.bisect.task import PlanWords, Task, Test
    from popcorn.plan import Plan

_FOLDER = click.Path(path_type=Path, file_okay=False)


def _share(_context: click.Context, option: click.Parameter, text: str | None, most: float = 1.0) -> float | None:
    """A share between 0 and 1, written as such or as a percentage."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    what = "is no share" if not 0 < share <= 1 else "is not below one half" if share > most else ""
    if what:
        raise UserError(f"{option.opts[0]} {text} {what}", hint=f"write one between 0 and {most:g}, such as 0.01 or 1%")
    return share


def _small_share(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """One at which runs tell something: who errs in every second answer asks nothing."""
    return _share(context, option, text, most=0.49)


def _seconds(_context: click.Context, option: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{option.opts[0]} {value:g} is no time", hint="write a number of seconds, such as 600")
    return value


_SPACE = (
    click.option("--good", metavar="A", help="The end without the failure.  [default: 0, before the first]"),
    click.option("--bad", metavar="B", help="The end with it.  [default: all]"),
    click.option("--patches", type=_FOLDER, metavar="DIR", help="Search patches on top of the series, or another one."),
    click.option("--tree", type=_FOLDER, metavar="GIT", help="Search the commits of a kernel's git tree."),
    click.option(
        "--fragment", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Search its options."
    ),
    click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Search these, in order."),
    click.option("--series", default="6.12", show_default=True, help="Which kernel series."),
    click.option("--flavour", default="default", show_default=True, help="default or debug."),
    click.option("--source", type=click.Path(path_type=Path), metavar="TREE|TARBALL", help="Kernel source, instead."),
)
_TEST = (
    click.option("--test", metavar="EXPR", help="What pytest -k takes, on the suites; or a node id."),
    click.option("--command", metavar="SH", help="A shell command in a kernel; 0 passes, if no kernel crashes."),
    click.option("--kernel", type=int, metavar="ID", help="Which kernel runs it.  [default: the first secondary]"),
    click.option("--metric", metavar="NAME", help="A metric of `popcorn bench messages`."),
    click.option(
        "--worse",
        metavar="SHARE",
        callback=_share,
        default="10%",
        show_default=True,
        help="By how much it is worse at B.",
    ),
    click.option("--build", is_flag=True, help="Nothing but the build."),
    click.option(
        "--timeout", "timeout_s", default=600.0, show_default=True, callback=_seconds, help="Of one test, in seconds."
    ),
    click.option("--title", default="", metavar="REGEX", help="The failure.  [default: what B shows most]"),
)
_TERMS = (
    click.option(
        "--error",
        metavar="SHARE",
        callback=_small_share,
        default="1%",
        show_default=True,
        help="How likely the answer may be wrong.",
    ),
    click.option(
        "--alpha", metavar="SHARE", callback=_small_share, help="That it is a later change.  [default: half of --error]"
    ),
    click.option(
        "--beta", metavar="SHARE", callback=_small_share, help="That it is an earlier one.  [default: half of --error]"
    ),
    click.option(
        "--flaky-rate", "rate", metavar="SHARE", callback=_share, help="How often B fails.  [default: measured]"
    ),
    click.option(
        "--noise",
        metavar="SHARE",
        callback=_small_share,
        default="0.1%",
        show_default=True,
        help="How often A fails nevertheless.",
    ),
    click.option("--max-runs", default=200, show_default=True, type=click.IntRange(min=1), help="Of one candidate."),
)
_PLAN = (
    click.option("--machine", default="small", show_default=True, help="For --command: paper, small, or a TOML file."),
    click.option("--policy", default="per-core", show_default=True, help="Likewise, and the following."),
    click.option("--memory", default="numa", show_default=True, metavar="numa|flat"),
    click.option("--size", "sizes", multiple=True, metavar="[ID=]SIZE"),
    click.option("--device", "devices", multiple=True, metavar="NAME=ID"),
    click.option("--append", default="", metavar="TEXT"),
    click.option("--qemu-option", "qemu", multiple=True, metavar="WORD"),
    click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True),
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((*_SPACE, *_TEST, *_TERMS, *_PLAN)):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.pass_context
@_options
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
    popcorn bisect --good 20 --metric msg.ipis.0 --worse 10%

    Exit status: 0 found, 1 not to be told apart from others, 2 the ends are wrong, 3 the host failed.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from popcorn import hostpackages
    from popcorn.bisect import journal as journals

    hostpackages.ensure("test" if options["test"] else "up")
    if resume is not None:
        return _conduct(journals.find(resume), as_json=as_json)
    journal = journals.create(name or time.strftime("%Y%m%d-%H%M%S"))
    try:
        _begin(journal, options)
    except BaseException:
        # Without a task there is nothing to resume.
        shutil.rmtree(journal.folder, ignore_errors=True)
        raise
    return _conduct(journal, as_json=as_json)


def _begin(journal: Journal, options: dict[str, Any]) -> None:
    from dataclasses import replace

    from popcorn.bisect import journal as journals
    from popcorn.bisect.actions import Terms
    from popcorn.bisect.setup import new_task
    from popcorn.bisect.task import SEARCH_REPOSITORY, PlanWords

    test = _test(options)
    chosen = [name for name in ("patches", "tree", "fragment", "parameters") if options[name]]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1].rstrip('s')} are two searches", hint="name one of them")
    if options["parameters"] and test.how not in ("command", "metric"):
        raise UserError("--parameter changes the machine, which a suite chooses itself", hint="test by --command")
    if options["kernel"] is not None and test.how != "command":
        raise UserError("--kernel says where --command runs", hint="leave it out, or test by --command")
    half = options["error"] / 2
    terms = Terms(
        alpha=options["alpha"] or half,
        beta=options["beta"] or half,
        rate=options["rate"],
        noise=options["noise"],
        pattern=_pattern(options["title"]),
        worse=options["worse"] if test.how == "metric" else None,
        max_runs=options["max_runs"],
    )
    words = PlanWords(**{field: options[field] for field in PlanWords.__dataclass_fields__})
    if not options["parameters"] and test.how == "command":
        _require_kernel(_make_plan(words), test.kernel)
    task = new_task(
        journal.folder / SEARCH_REPOSITORY,
        test=test,
        terms=terms,
        plan=words,
        **{name: options[name] for name in ("good", "bad", "series", "flavour", "source", "accel", "patches")},
        **{name: options[name] for name in ("tree", "fragment", "parameters")},
    )
    journals.begin(journal, replace(task, command=tuple(sys.argv[1:])))


def _test(options: dict[str, Any]) -> Test:
    from popcorn.bisect.task import Test

    hows = {"suite": "test", "command": "command", "metric": "metric", "build": "build"}
    asked = [how for how, option in hows.items() if options[option]]
    if len(asked) != 1:
        raise UserError(
            "a search needs one test" if not asked else f"--{hows[asked[0]]} and --{hows[asked[1]]} are two tests",
            hint="name one of --test EXPR, --command SH, --metric NAME, --build",
        )
    how = asked[0]
    what = options[hows[how]] if how != "build" else ""
    return Test(how, what, options["kernel"], options["timeout_s"])  # type: ignore[arg-type]


def _require_kernel(plan: Plan, id: int | None) -> None:
    ids = [partition.id for partition in plan.partitions]
    if id is not None and id not in ids:
        raise UserError(f"the plan has no kernel {id}", hint=f"its kernels are {', '.join(map(str, ids))}")


def _pattern(text: str) -> str:
    import re

    try:
        re.compile(text)
    except re.error as error:
        raise UserError(
            f"--title {text!r} is no regular expression: {error}", hint="escape what is not meant"
        ) from None
    return text


def _make_plan(words: PlanWords) -> Plan:
    return chosen_plan(
        machine=words.machine,
        policy=words.policy,
        memory=words.memory,
        sizes=words.sizes,
        devices=words.devices,
        append=words.append,
        plan_file=None,
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
            _make_plan,
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
        _print_evidence(words, task, journal)
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


def _print_evidence(words: Any, task: Task, journal: Journal) -> None:
    from popcorn.bisect.conduct import open_search
    from popcorn.cli.table import print_table

    rows = words.evidence(open_search(journal))
    print_table(("candidate", "failed", "others", "lost", "verdict", "latest logs"), rows)
    click.echo(f"logs are in {journal.folder}")


@bisect.command()
@click.argument("name", default="", metavar="[NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(name: str, as_json: bool) -> None:
    """Tell how far a search is, the latest one unless named."""
    from popcorn.bisect import journal as journals
    from popcorn.bisect.conduct import open_search
    from popcorn.bisect.tell import Words

    journal = journals.find(name)
    task = journal.task()
    words = Words(journal, task)
    search = open_search(journal)
    if as_json:
        click.echo(json.dumps(words.as_json(search, journal.ended()), indent=2))
        return
    click.echo(words.plan(search))
    _print_evidence(words, task, journal)
    ended = journal.ended()
    if ended is None:
        click.echo(_next(journal, words, search))
    elif "found" in ended:
        click.echo("ended: " + ", ".join(words.name(commit) for commit in ended["found"]))  # type: ignore[attr-defined]
    else:
        click.echo(f"ended: {ended.get('refused')}")


def _next(journal: Journal, words: Any, search: Any) -> str:
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


@bisect.command()
@click.argument("name", default="", metavar="[NAME]")
def log(name: str) -> None:
    """List the runs of a search, the latest one unless named."""
    from popcorn.bisect import journal as journals
    from popcorn.bisect.conduct import open_search
    from popcorn.bisect.tell import Words

    journal = journals.find(name)
    for line in Words(journal, journal.task()).log(open_search(journal)):
        click.echo(line)
