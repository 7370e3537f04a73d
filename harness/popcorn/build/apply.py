# SPDX-License-Identifier: Apache-2.0
"""Turning a series of patch files into commits on top of a base."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.base import Base
from popcorn.build.git import git, linux_repository, output, repository_lock, resolve
from popcorn.build.series import Series
from popcorn.build.shared import add_shared
from popcorn.errors import SeriesError
from popcorn.files import sha256_bytes, sha256_file
from popcorn.progress import note, step

_RECIPE = 1


@dataclass(frozen=True)
class Applied:
    """A series as commits in the cache's repository."""

    base: Base
    start: str
    """What the patches are applied to: the base, with the files that the series takes from another one if it does."""
    commits: tuple[str, ...]
    """One for each patch, in order."""

    @property
    def head(self) -> str:
        """The commit with all patches."""
        return self.commits[-1] if self.commits else self.start


@dataclass(frozen=True)
class Refusal:
    """The first place where a patch does not fit."""

    file: str
    line: int
    """Line in the patched file at which the hunk was expected; 0 when the whole file is the matter."""
    reason: str

    def __str__(self) -> str:
        at = f", hunk at line {self.line}" if self.line else ""
        return f"{self.file}{at}: {self.reason}"


def apply_series(base: Base, series: Series) -> Applied:
    """Apply the patches with `git am`, each as a commit, once for every base and content of the series.

    What is shared with another series comes first, as one commit.

    Offsets are tolerated. A patch whose context fits only in part is tried once more with a single line of context
    and then told. Commits are reproducible: the same base and patches give the same ids.

    Raises SeriesError naming the patch, the file and the hunk when one does not apply.
    """
    start = add_shared(base.commit, series)
    return Applied(base, start, apply_patches(linux_repository(), start, series.patches, base.version))


def apply_patches(repository: Path, start: str, patches: Sequence[Path], onto: str) -> tuple[str, ...]:
    """Apply patches to a commit of a bare repository, as `apply_series` does; the commits, one for each patch.

    Args:
        onto: what people call that commit.
    """
    if not patches:
        return ()
    hashes = [[patch.name, sha256_file(patch)] for patch in patches]
    key = sha256_bytes(json.dumps([_RECIPE, start, hashes]).encode())[:32]
    mark = f"refs/popcorn/series/{key}"
    head = resolve(repository, mark)
    if head is None:
        with repository_lock(), step(f"applying {len(patches)} patches to {onto}"):
            head = _am(repository, start, patches)
            git("update-ref", mark, head, cwd=repository)
    return tuple(output("rev-list", "--reverse", f"{start}..{head}", cwd=repository).split())


def first_refusal(said: str) -> Refusal | None:
    """The first complaint of `git apply` about a hunk or a file."""
    for line in said.splitlines():
        if found := re.match(r"error: patch failed: (.+):(\d+)$", line):
            return Refusal(found.group(1), int(found.group(2)), "its context is not there")
        if found := re.match(
            r"error: (.+): (does not exist in index|already exists in (?:index|working directory))", line
        ):
            return Refusal(found.group(1), 0, found.group(2))
        if found := re.match(r"error: corrupt patch at (?:line |.*:)(\d+)", line):
            return Refusal("the patch itself", int(found.group(1)), "is malformed")
    return None


def _am(repository: Path, base: str, patches: Sequence[Path]) -> str:
    # Without a checkout: `git am` fetches the few files it touches from the index.
    tree = repository.parent / "applying"
    shutil.rmtree(tree, ignore_errors=True)
    git("worktree", "prune", cwd=repository)
    git("worktree", "add", "--quiet", "--no-checkout", "--detach", tree, base, cwd=repository)
    try:
        git("read-tree", base, cwd=tree)
        for patch in patches:
            _am_one(tree, patch)
        return output("rev-parse", "HEAD", cwd=tree)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        git("worktree", "prune", cwd=repository, check=False)


def _am_one(tree: Path, patch: Path) -> None:
    command = ("am", "--quiet", "--keep-non-patch", "--committer-date-is-author-date", "--whitespace=nowarn")
    strict = git(*command, patch, cwd=tree, check=False)
    if strict.returncode == 0:
        return
    refusal = first_refusal(strict.stderr + strict.stdout)
    git("am", "--abort", cwd=tree, check=False)
    if git(*command, "-C1", patch, cwd=tree, check=False).returncode == 0:
        note(f"{patch.name} applied with a single line of context ({refusal}); `popcorn kernel refresh` renews it")
        return
    said = (strict.stderr + strict.stdout).strip().splitlines()
    raise SeriesError(
        f"the patch {patch.name} does not apply: {refusal or (said[0] if said else 'git am gave no reason')}",
        hint=f"mend it with `popcorn kernel checkout` on a base it applies to, then `popcorn kernel refresh`; "
        f"the patch is {patch}",
    )
