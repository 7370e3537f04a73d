# SPDX-License-Identifier: Apache-2.0
"""From the options of ``popcorn bisect`` to a search that can be conducted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from popcorn.cli.plan_options import chosen_plan
from popcorn.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from popcorn.bisect.journal import Journal
    from popcorn.bisect.task import PlanWords, Task, Test
    from popcorn.plan import Plan


def begin_task(journal: Journal, options: dict[str, Any]) -> None:
    """Write down what a search is asked to do, by the options of `bisect_options`.

    Raises:
        UserError: options contradict each other, or name what is not there.
    """
    from dataclasses import replace

    from popcorn.bisect import journal as journals
    from popcorn.bisect.actions import Terms
    from popcorn.bisect.setup import new_task
    from popcorn.bisect.task import SEARCH_REPOSITORY, PlanWords
    from popcorn.bisect.trial import selection
    from popcorn.dirs import source_root
    from popcorn.testing.collect import require_tests

    test = _test(options)
    chosen = [name for name in ("patches", "tree", "fragment", "parameters") if options[name]]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1].rstrip('s')} are two searches", hint="name one of them")
    if options["parameters"] and test.how not in ("command", "metric"):
        raise UserError("--parameter changes the machine, which a suite chooses itself", hint="test by --command")
    if options["kernel"] is not None and test.how != "command":
        raise UserError("--kernel says where --command runs", hint="leave it out, or test by --command")
    if test.how == "metric":
        _require_metric(test.what, options["parameters"])
    if test.how == "suite":
        require_tests(selection(test.what, options["series"]), cwd=source_root())
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
        _require_kernel(make_plan(words), test.kernel)
    task = new_task(
        journal.folder / SEARCH_REPOSITORY,
        test=test,
        terms=terms,
        plan=words,
        **{name: options[name] for name in ("good", "bad", "series", "flavour", "source", "accel", "patches")},
        **{name: options[name] for name in ("tree", "fragment", "parameters")},
    )
    if options["parameters"] and test.how == "command":
        _require_ends(task, journal.folder / SEARCH_REPOSITORY)
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


def _require_metric(name: str, parameters: tuple[str, ...]) -> None:
    from popcorn.bisect.spaces import parameter
    from popcorn.run.msgbench import metric_names

    if name not in metric_names():
        raise UserError(f"there is no metric {name!r}", hint=f"metrics: {', '.join(metric_names())}")
    for one in parameters:
        if parameter(one)[0] not in ("append", "qemu"):
            raise UserError(
                f"{one!r} changes nothing: --metric is measured on a machine of its own",
                hint="of parameters, append and qemu count there; or test by --command",
            )


def _require_ends(task: Task, repository: Path) -> None:
    """Refuse parameters of which no machine can be made: that is known without a search."""
    from popcorn.bisect.candidate import plan_words_of

    for end, commit in (("good", task.good), ("bad", task.bad)):
        try:
            plan = make_plan(plan_words_of(task, repository, commit))
            _require_kernel(plan, task.test.kernel)
        except UserError as error:
            where = f"the {end} end, {task.labels[commit]}"
            raise UserError(f"no machine can be made at {where}: {error}", hint=error.hint) from error


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


def make_plan(words: PlanWords) -> Plan:
    """The plan of the machine on which a command is run. Raises UserError."""
    return chosen_plan(
        machine=words.machine,
        policy=words.policy,
        memory=words.memory,
        sizes=words.sizes,
        devices=words.devices,
        append=words.append,
        plan_file=None,
    )
