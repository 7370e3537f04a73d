# SPDX-License-Identifier: Apache-2.0
"""A persistent work tree with its object directories, so that a small change costs a small build.

Switching the tree from one commit to another touches only the files that differ; make sees the rest as unchanged.
The object directories lie inside the tree (`obj-NAME`): the kernel then names its sources by relative paths, which
makes its bytes, and ccache, independent of where the cache is.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.disk import need_free_space
from popcorn.build.git import git, linux_repository, output, repository_lock, resolve
from popcorn.build.store import locked
from popcorn.clock import uptime_s
from popcorn.dirs import cache_dir
from popcorn.progress import step

WORKSPACE_BYTES = 3 << 30
"""Room for a work tree and the objects of one flavour."""

_LONGEST_STEP_S = 60
_BUILDING = ".popcorn-building"
_DRIFT_S = 1


@dataclass(frozen=True)
class Workspace:
    """A checked-out kernel tree that nobody else uses while it is held."""

    tree: Path

    def objects(self, name: str) -> Path:
        """The object directory `name`, made if it is missing."""
        path = self.tree / f"obj-{name}"
        path.mkdir(exist_ok=True)
        return path

    def switch(self, commit: str) -> None:
        """Bring the tree to `commit`, rewriting only files that differ."""
        if resolve(self.tree, "HEAD") == commit and not output("status", "--porcelain", cwd=self.tree):
            return
        with step("checking out the kernel tree"):
            git("checkout", "--quiet", "--force", "--detach", commit, cwd=self.tree)
            git("clean", "-fdq", cwd=self.tree)


@contextmanager
def workspace(name: str, commit: str, repository: Path | None = None) -> Iterator[Workspace]:
    """Hold the workspace `name` with its tree at `commit`; waits for whoever holds it.

    `repository` is the bare repository that has the commit, if not the one of all kernel sources.

    Raises NoRoomError before a new tree is made without room for it.
    """
    tree = cache_dir() / "build" / name
    with locked(f"build-{name}", f"another build in {tree}"):
        repository = repository or linux_repository()
        if not _usable(tree):
            need_free_space(cache_dir(), WORKSPACE_BYTES, "building a kernel")
            tree.parent.mkdir(parents=True, exist_ok=True)
            with repository_lock(), step("checking out the kernel tree"):
                shutil.rmtree(tree, ignore_errors=True)
                git("worktree", "prune", cwd=repository)
                git("worktree", "add", "--quiet", "--force", "--detach", tree, commit, cwd=repository)
        _unlock_index(tree)
        # When it was used last, for `prune`.
        os.utime(tree)
        held = Workspace(tree)
        held.switch(commit)
        yield held


def interrupted(objects: Path) -> bool:
    """Whether the last make in `objects` was killed, and the next one will remove what it left."""
    return (objects / _BUILDING).exists()


@contextmanager
def interruptible(objects: Path) -> Iterator[None]:
    """Around a make in `objects`: if it is killed, the next one starts by removing what may be half-written.

    make's own removal of half-made targets does not survive SIGKILL, and a truncated object looks up to date.
    """
    mark = objects / _BUILDING
    if mark.exists():
        with step("removing what an interrupted build left"):
            _remove_unfinished(objects, mark)
    mark.write_text(f"{time.time() - uptime_s()}\n")
    yield
    # Not reached when the body raised: then make may have been killed, and the mark stays.
    mark.unlink(missing_ok=True)


def _remove_unfinished(objects: Path, mark: Path) -> None:
    written = {}
    for directory, _, names in os.walk(objects):
        for name in names:
            path = Path(directory, name)
            written[path] = path.lstat().st_mtime
    since_s, back_s = mark.stat().st_mtime, _set_back_s(mark)
    if back_s:
        # Which of the files that look older were written since, nobody knows.
        since_s -= back_s
    else:
        # A program writes its output at the end of its work, and no step of the build works for a minute.
        since_s = max(since_s, max(written.values()) - _LONGEST_STEP_S)
    for path, at_s in written.items():
        if at_s >= since_s and not path.is_symlink():
            path.unlink()


def _set_back_s(mark: Path) -> float:
    """By how many seconds the host's clock was set back since a mark was made, if by more than it is set anyway."""
    try:
        booted_s = float(mark.read_text())
    except ValueError:
        return 0.0
    # When the host booted, by its clock: a later boot only makes that later.
    back_s = booted_s - (time.time() - uptime_s())
    return back_s if back_s > _DRIFT_S else 0.0


def _usable(tree: Path) -> bool:
    return (tree / "Makefile").is_file() and git("rev-parse", "--git-dir", cwd=tree, check=False).returncode == 0


def _unlock_index(tree: Path) -> None:
    # We hold the workspace, so a lock of git's can only be a killed predecessor's.
    (Path(output("rev-parse", "--absolute-git-dir", cwd=tree)) / "index.lock").unlink(missing_ok=True)
