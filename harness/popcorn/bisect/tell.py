# SPDX-License-Identifier: Apache-2.0
"""A search in words: its plan, its runs, its answer with the evidence, and how to see the failure by hand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popcorn.bisect.actions import Found, Try
from popcorn.bisect.conduct import RUNS, Progress
from popcorn.bisect.evidence import Run, Stage
from popcorn.bisect.journal import Journal
from popcorn.bisect.search import Search
from popcorn.bisect.setup import label
from popcorn.bisect.task import SEARCH_REPOSITORY, Task, Test
from popcorn.bisect.trial import MACHINE, selection
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.kernel import KERNEL_VARIABLE
from popcorn.dirs import cache_dir
from popcorn.machine.recorded import plan_of
from popcorn.machine.registry import PLAN_FILE

_WHAT = {"patches": "patches", "commits": "commits", "options": "options", "parameters": "parameters"}


class Words:
    """What is said about one search."""

    def __init__(self, journal: Journal, task: Task) -> None:
        self.journal, self.task = journal, task
        self._repository = journal.folder / SEARCH_REPOSITORY

    def name(self, commit: str) -> str:
        """What a candidate is called."""
        return label(self.task, self._repository, commit)

    def plan(self, search: Search) -> str:
        """What will be done."""
        between = len(search.history.between())
        what = _WHAT[self.task.kind].removesuffix("s" if between == 1 else "")
        terms = self.task.terms
        told = [
            f"{self.journal.name}: {between} {what}, about {between.bit_length()} of them to try",
            f"good end  {self.name(search.history.good)}",
            f"bad end   {self.name(search.history.bad)}",
            f"test      {shown_test(self.task.test)}",
            f"error     {terms.alpha + terms.beta:.2g} at most",
        ]
        return "\n".join(told)

    def before(self, progress: Progress) -> str:
        """A run that begins."""
        step = progress.step
        left = f"about {step.steps} left, " if step.steps else ""
        return f"{step.why}: {self.name(step.commit)} ({left}{minutes(progress.seconds_left)})"

    def after(self, step: Try, run: Run) -> str:
        """A run that has ended."""
        what = {"passed": "passed", "failed": f"failed: {run.title}", "lost": f"lost, and run again: {run.title}"}
        value = f", {run.value:g}" if run.value is not None else ""
        return f"  {what[run.result]}{value} ({run.elapsed_s:.0f} s; {run.folder})"

    def log(self, search: Search) -> list[str]:
        """A line a run."""
        lines = []
        for run in search.runs:
            value = f" {run.value:g}" if run.value is not None else ""
            title = f"  {run.title}" if run.title else ""
            lines.append(f"{run.folder}  {run.elapsed_s:5.0f} s  {run.result:6}{value}  {self.name(run.commit)}{title}")
        return lines

    def evidence(self, search: Search) -> list[tuple[str, ...]]:
        """A row a candidate: name, runs that failed of all that tell, other runs, verdict, the latest logs."""
        ordered = [search.history.good, *search.history.between()]
        rows: list[tuple[str, ...]] = []
        for commit in (one for one in ordered if one in search.tried()):
            runs = search.tried()[commit]
            lost = sum(run.result == "lost" for run in runs)
            shown, others, verdict = "-", 0, "?"
            if search.sought is not None:
                told = search.tally(commit)
                shown, others = f"{told.counts.fails}/{told.counts.runs}", len(told.others)
                verdict = (search.verdict(commit) if search.rates is not None else None) or "?"
            rows.append((self.name(commit), shown, str(others), str(lost), verdict, runs[-1].folder))
        return rows

    def answer(self, search: Search, found: Found) -> list[str]:
        """The answer in a few lines."""
        names = [self.name(commit) for commit in found.commits]
        noun = _WHAT[self.task.kind][:-1] if self.task.kind != "patches" else "patch"
        if len(names) == 1:
            lines = [f"the first bad {noun} is {names[0]}", f"  commit    {found.commits[0]}"]
        else:
            lines = [f"the first bad {noun} is one of these {len(names)}; those between could not be tested:"]
            lines += [f"  {name}" for name in names]
        lines.append(f"  failure   {search.sought}")
        bound = f"{found.error:.2g}" + ("" if found.confirmed else f", more than was asked for: {self._asked()}")
        lines.append(f"  error     {bound} at most, if what fails once goes on to fail in all later ones")
        return lines

    def _asked(self) -> str:
        return f"{self.task.terms.alpha + self.task.terms.beta:.2g}; --max-runs ended it"

    def by_hand(self, search: Search, found: Found, kernels: Mapping[str, KernelArtifact]) -> list[str]:
        """Commands that show the failure, and its absence."""
        bad = found.commits[0] if len(found.commits) == 1 else search.history.bad
        if search.sought is not None and search.sought.stage is Stage.BUILD:
            log = next(run.folder for run in reversed(search.tried()[bad]))
            return [f"less {self.journal.folder / log / 'build.txt'}", *self._rebuild(bad)]
        lines = []
        for commit, what in ((bad, "fails"), (self._good_before(search, bad), "passes")):
            kernel = kernels.get(commit)
            if kernel is not None:
                where = self._where(search, commit)
                lines.append(f"{by_hand(self.task, kernel.dir, commit, search, where)}    # {what}")
        return lines

    def _where(self, search: Search, commit: str) -> int:
        """The kernel that the command runs in."""
        if self.task.test.kernel is not None or self.task.test.how != "command":
            return self.task.test.kernel or 0
        folders = [self.journal.folder / run.folder / MACHINE for run in reversed(search.tried()[commit])]
        plan = next(plan_of(folder) for folder in folders if (folder / PLAN_FILE).is_file())
        return (plan.secondaries or [plan.primary])[0].id

    def _good_before(self, search: Search, bad: str) -> str:
        tried = search.tried()
        return next((one for one in search.history.parents(bad) if one in tried), search.history.good)

    def _rebuild(self, commit: str) -> list[str]:
        if self.task.kind not in ("patches", "options"):
            return []
        tree = cache_dir() / "build" / self.task.series
        at = commit if self.task.kind == "patches" else self.task.head
        return [
            f"git -C {shlex.quote(str(tree))} checkout --quiet --detach {at[:12]}",
            f"make -C {shlex.quote(str(tree))} O=obj-{self.task.flavour} -j$(nproc) vmlinux",
        ]

    def as_json(self, search: Search, outcome: dict[str, object] | None) -> dict[str, Any]:
        """All of it for programs."""
        columns = ("candidate", "failed", "others", "lost", "verdict", "logs")
        return {
            "name": self.journal.name,
            "folder": str(self.journal.folder),
            "runs": len(search.runs),
            "failure": str(search.sought) if search.sought is not None else None,
            "evidence": [dict(zip(columns, row, strict=True)) for row in self.evidence(search)],
            "outcome": outcome,
        }


def shown_test(test: Test) -> str:
    """What is run."""
    if test.how == "suite":
        path = "/" in test.what.partition("::")[0] or test.what.partition("::")[0].endswith(".py")
        return f"pytest {'' if path else '-k '}{shlex.quote(test.what)}"
    if test.how == "command":
        where = f"kernel {test.kernel}" if test.kernel is not None else "the first secondary"
        return f"sh -c {shlex.quote(test.what)} in {where}"
    if test.how == "metric":
        return f"the metric {test.what}"
    return "whether it builds"


def by_hand(task: Task, kernel: Path, commit: str, search: Search, where: int) -> str:
    """The command that runs the test once on a kernel; `where` is the kernel's id in which a command runs."""
    named = f"{KERNEL_VARIABLE}={shlex.quote(str(kernel))}"
    if task.test.how == "suite":
        words = shlex.join(selection(task.test.what, task.series))
        return f"{named} POPCORN_SLOW=1 PYTHONPATH=harness {shlex.quote(sys.executable)} -m pytest -n 0 {words}"
    if task.test.how == "metric":
        return f"{named} ./popcorn bench messages --repeat 3 --series {task.series}"
    from popcorn.bisect.candidate import plan_words_of

    plan = plan_words_of(task, search.history.repository, commit)
    options = ["--machine", plan.machine, "--policy", plan.policy, "--memory", plan.memory]
    options += [word for size in plan.sizes for word in ("--size", size)]
    options += [word for device in plan.devices for word in ("--device", device)]
    options += ["--append", plan.append] if plan.append else []
    options += [f"--qemu-option={word}" for word in plan.qemu]
    options += ["--series", task.series, "--flavour", task.flavour, "--name", "by-hand"]
    return (
        f"{named} ./popcorn up {shlex.join(options)} && "
        f"./popcorn exec {where} --name by-hand -- sh -c {shlex.quote(task.test.what)}; ./popcorn down --name by-hand"
    )


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def runs_folder(journal: Journal) -> Path:
    """Where the logs of the runs are."""
    return journal.folder / RUNS
