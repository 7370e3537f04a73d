# SPDX-License-Identifier: Apache-2.0
"""From what the user asks to a task and the repository that is searched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from popcorn.bisect import spaces
from popcorn.bisect.actions import Terms
from popcorn.bisect.history import History
from popcorn.bisect.task import Kind, PlanWords, Task, Test
from popcorn.build.apply import apply_patches, apply_series
from popcorn.build.git import linux_repository, output
from popcorn.build.kconfig import FLAVOURS, fragments, parse_fragment, requests_of
from popcorn.build.series import Series, load_series
from popcorn.build.source import find_base
from popcorn.errors import UserError


def new_task(
    repository: Path,
    *,
    good: str | None,
    bad: str | None,
    test: Test,
    terms: Terms,
    series: str,
    flavour: str,
    source: Path | None,
    plan: PlanWords,
    accel: Literal["auto", "kvm", "tcg"] = "auto",
    patches: Path | None = None,
    tree: Path | None = None,
    fragment: Path | None = None,
    parameters: tuple[str, ...] = (),
) -> Task:
    """A task, and `repository` (which is made) filled with the history to search.

    Args:
        patches: a folder with a series of its own (it has a base.toml), or with patches that go on top of `series`.
        tree: a git tree whose commits are searched instead; likewise the following.
        fragment: a configuration fragment, its options in order.
        parameters: ``NAME=VALUE``, in order.

    Raises:
        UserError: the ends name nothing, or a patch does not apply.
        HostError: the base cannot be had.
    """
    chosen = _series(series, patches)
    task = Task(
        kind="patches",
        good="",
        bad="",
        test=test,
        terms=terms,
        series=series,
        flavour=flavour,
        plan=plan,
        accel=accel,
        source=str(source.resolve()) if source else "",
        requests=tuple((one.symbol, one.value) for one in requests_of(fragments(chosen, flavour))),
    )
    if tree is not None:
        return _commits(task, repository, tree, chosen, good, bad)
    if fragment is not None:
        return _options(task, repository, fragment, chosen, source, good, bad)
    if parameters:
        for one in parameters:
            spaces.parameter(one)
        return _listed(task, "parameters", spaces.bare_repository(repository), parameters, good, bad)
    return _patches(task, repository, chosen, patches, source, good, bad)


def _series(name: str, patches: Path | None) -> Series:
    if patches is None or not (patches / "base.toml").is_file():
        return load_series(name)
    own = load_series(name, patches.resolve())
    if not all((own.dir / "config" / file).is_file() for file in FLAVOURS["default"]):
        raise UserError(f"{own.dir} has no fragments in config/", hint="copy those of the series it comes from")
    return own


def _patches(
    task: Task,
    repository: Path,
    series: Series,
    folder: Path | None,
    source: Path | None,
    good: str | None,
    bad: str | None,
) -> Task:
    base = find_base(series, source)
    applied = apply_series(base, series)
    files = list(series.patches)
    line = [applied.start, *applied.commits]
    if folder is not None and series.dir != folder.resolve():
        files = spaces.patch_files(folder.resolve())
        line = [applied.head, *apply_patches(linux_repository(), applied.head, files, f"the series {series.name}")]
    names = [file.name for file in files]
    spaces.bare_repository(repository, linux_repository())
    first, last = _ends(names, good, bad, "patch")
    labels = {line[0]: f"0: {'the series ' + series.name if line[0] == applied.head else 'Linux ' + base.version}"}
    labels |= {
        commit: f"{number}: {name}" for number, (commit, name) in enumerate(zip(line[1:], names, strict=True), 1)
    }
    return replace(task, good=line[first], bad=line[last], labels=labels)


def _commits(task: Task, repository: Path, tree: Path, series: Series, good: str | None, bad: str | None) -> Task:
    ends = [spaces.revision(tree, text, end) for text, end in ((good, "good"), (bad, "bad"))]
    for commit in ends:
        spaces.require_kernel(tree, commit)
    spaces.bare_repository(repository, tree, linux_repository())
    # What lies between them is looked for before anything is written down.
    History(repository, *ends)
    hashes = zip(series.patches, series.patch_hashes(), strict=True)
    patches = tuple((str(path), digest) for path, (_, digest) in hashes)
    return replace(task, kind="commits", good=ends[0], bad=ends[1], tree=str(tree.resolve()), patches=patches)


def _options(
    task: Task, repository: Path, fragment: Path, series: Series, source: Path | None, good: str | None, bad: str | None
) -> Task:
    try:
        options = parse_fragment(fragment.read_text(encoding="utf-8"), fragment.name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {fragment}: {getattr(error, 'strerror', None) or error}") from error
    lines = [f"CONFIG_{one.symbol}={one.value}" for one in options]
    if not lines:
        raise UserError(f"{fragment} asks for no option", hint="expected lines such as CONFIG_NAME=y")
    head = apply_series(find_base(series, source), series).head
    return _listed(replace(task, head=head), "options", spaces.bare_repository(repository), lines, good, bad)


def _listed(
    task: Task, kind: Kind, repository: Path, entries: tuple[str, ...] | list[str], good: str | None, bad: str | None
) -> Task:
    first, last = _ends(entries, good, bad, "entry of the list")
    line = spaces.write_line(repository, entries)
    labels = {commit: f"{number}: {(*('without them',), *entries)[number]}" for number, commit in enumerate(line)}
    return replace(task, kind=kind, good=line[first], bad=line[last], labels=labels)


def _ends(names: list[str] | tuple[str, ...], good: str | None, bad: str | None, what: str) -> tuple[int, int]:
    first = spaces.position(good, names, 0, what)
    last = spaces.position(bad, names, len(names), what)
    if first >= last:
        raise UserError(
            f"the good end ({first}) has to come before the bad end ({last})",
            hint="the bad end holds what is sought, the good one does not",
        )
    return first, last


def label(task: Task, repository: Path, commit: str) -> str:
    """What a candidate is called."""
    if commit in task.labels:
        return task.labels[commit]
    return output("show", "--no-patch", "--format=%h %s", commit, cwd=repository)
