# SPDX-License-Identifier: Apache-2.0
"""From a candidate to the kernel and the plan that it stands for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from popcorn.bisect.spaces import entries_at, tree_repository, with_parameters
from popcorn.bisect.task import PlanWords, Task
from popcorn.build.apply import apply_patches
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.git import git, linux_repository
from popcorn.build.kconfig import Request, parse_fragment
from popcorn.build.kernel import HEADERS, UAPI, build_commit, build_kernel
from popcorn.build.series import load_series
from popcorn.build.shared import add_shared
from popcorn.errors import UserError
from popcorn.files import sha256_file


def kernel_of(task: Task, repository: Path, commit: str) -> KernelArtifact:
    """The kernel of a candidate, built if the store has it not.

    Raises:
        KernelBuildError: it does not compile.
        UserError: the series does not apply to it, or its configuration is not obtained.
        PopcornError: as `popcorn.build.kernel.build_kernel`.
    """
    requests = [Request(symbol, value, "the search") for symbol, value in task.requests]
    if task.kind == "parameters":
        return build_kernel(task.series, task.flavour, Path(task.source) if task.source else None)
    if task.kind == "patches":
        return build_commit(task.series, task.flavour, commit, requests, place=task.series)
    if task.kind == "options":
        more = parse_fragment("\n".join(entries_at(repository, commit)), "the list of options")
        symbols = {one.symbol for one in more}
        wanted = [one for one in requests if one.symbol not in symbols] + list(
            {one.symbol: one for one in more}.values()
        )
        # What an option depends on may come after it.
        optional = symbols if commit != task.bad else set()
        return build_commit(task.series, task.flavour, task.head, wanted, place=task.series, optional=optional)
    trees = tree_repository(Path(task.tree), linux_repository(), linux_repository().parent)
    head = with_series(task, trees, commit)
    return build_commit(task.series, task.flavour, head, requests, place=trees.stem, repository=trees)


def plan_words_of(task: Task, repository: Path, commit: str) -> PlanWords:
    """What the plan of a candidate is made of."""
    if task.kind != "parameters":
        return task.plan
    return PlanWords(**with_parameters(asdict(task.plan), entries_at(repository, commit)))  # type: ignore[arg-type]


def with_series(task: Task, repository: Path, commit: str) -> str:
    """A commit of the user's tree with the series on it, unless it is there already.

    Raises UserError when the series does not apply.
    """
    if git("cat-file", "-e", f"{commit}:{UAPI / HEADERS[0]}", cwd=repository, check=False).returncode == 0:
        return commit
    start = add_shared(commit, load_series(task.series), repository)
    patches = [Path(path) for path, _ in task.patches]
    return (apply_patches(repository, start, patches, commit[:12]) or (start,))[-1]


def require_same_patches(task: Task) -> None:
    """Refuse to go on with a series that is not the one the search began with. Raises UserError naming the patch."""
    for path, digest in task.patches:
        if not Path(path).is_file() or sha256_file(Path(path)) != digest:
            raise UserError(f"{path} has changed since the search began", hint="put it back, or begin the search anew")
