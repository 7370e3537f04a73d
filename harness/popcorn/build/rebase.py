# SPDX-License-Identifier: Apache-2.0
"""Taking a work tree's patches to another base, by git's own rebase: conflicts are git's, and so is the way on."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from popcorn.build.base import Base, fits
from popcorn.build.git import git, output
from popcorn.build.patchtree import (
    Checkout,
    fetch_commit,
    finished_checkout,
    known_checkout,
    record_base,
    restore_ignored,
    show_new_files,
)
from popcorn.build.series import Series, load_series
from popcorn.build.shared import add_shared
from popcorn.build.source import find_base
from popcorn.errors import UserError
from popcorn.files import write_atomic
from popcorn.process import run
from popcorn.progress import note

_ONTO = "refs/popcorn/rebase-onto"
_BASE = "refs/popcorn/rebase-base"
_SERIES = "popcorn.rebaseSeries"


@dataclass(frozen=True)
class Rebased:
    """How far a rebase got."""

    series: str
    version: str
    """Of the new base."""
    done: int
    total: int
    conflict: str = ""
    """The patch that does not fit; empty when all are on the new base."""


def rebase(directory: Path, source: Path | None = None, *, update: bool = False) -> Rebased:
    """Rebase the patches of a work tree onto another base.

    Args:
        source: a kernel tree or tarball. One of another version than the series is for makes a series of its own.
        update: look for a newer base where the series' comes from.

    Raises:
        UserError: the work tree is no finished series, is on that base already, or a series for it exists.
        HostError: the base cannot be had.
    """
    tree = finished_checkout(directory)
    base = find_base(replace(tree.series, version="") if source else tree.series, source, update=update)
    if base.commit == tree.base:
        raise UserError(
            f"{tree.directory} is on Linux {base.version} already",
            hint="name another with --source, or look for a newer one with --update",
        )
    name = _series_for(tree.series, base)
    start = add_shared(base.commit, tree.series)
    fetch_commit(tree.directory, base.commit, _BASE)
    fetch_commit(tree.directory, start, _ONTO)
    git("config", _SERIES, name, cwd=tree.directory)
    restore_ignored(tree.directory)
    _users_git(tree, "rebase", "--onto", _ONTO, tree.start)
    return _state(tree.directory)


def go_on(directory: Path) -> Rebased:
    """Go on after a conflict was resolved and added. Raises UserError when nothing is being rebased."""
    directory, _, _ = known_checkout(directory)
    _require_begun(directory)
    if _in_progress(directory):
        _users_git(directory, "rebase", "--continue")
    return _state(directory)


def give_up(directory: Path) -> None:
    """Put a work tree back as it was before the rebase. Raises UserError when nothing is being rebased."""
    directory, _, _ = known_checkout(directory)
    _require_begun(directory)
    if _in_progress(directory):
        git("rebase", "--abort", cwd=directory)
    _forget(directory)
    show_new_files(directory)


def _state(directory: Path) -> Rebased:
    name = output("config", _SERIES, cwd=directory)
    onto, base = (output("rev-parse", ref, cwd=directory) for ref in (_ONTO, _BASE))
    version = _version(directory, base)
    on_it = output("rev-list", "--count", f"{onto}..HEAD", cwd=directory)
    if (progress := _in_progress(directory)) is not None:
        current, total = (int((progress / file).read_text()) for file in ("msgnum", "end"))
        stopped = (progress / "stopped-sha").read_text().strip() if (progress / "stopped-sha").is_file() else "HEAD"
        subject = output("show", "--no-patch", "--format=%s", stopped, cwd=directory)
        return Rebased(name, version, current - 1, total, subject)
    if git("merge-base", "--is-ancestor", onto, "HEAD", cwd=directory, check=False).returncode:
        raise UserError(
            f"{directory} is not on Linux {version}: the rebase was ended by other means",
            hint="forget it with `popcorn kernel rebase --abort`, and begin anew",
        )
    _make_series(directory, name, version)
    record_base(directory, name, base, onto)
    _forget(directory)
    show_new_files(directory)
    return Rebased(name, version, int(on_it), int(on_it))


def _users_git(tree: Checkout | Path, *words: str) -> None:
    """git as the user would call it, but for the editor: the messages stay as they are. Its answer is in the tree."""
    directory = tree if isinstance(tree, Path) else tree.directory
    done = run(["git", *words], cwd=directory, env={**os.environ, "GIT_EDITOR": "true"}, check=False)
    said = (done.stdout + done.stderr.replace("\r", "\n")).strip()
    if done.returncode != 0 and said:
        note(said)


def _in_progress(directory: Path) -> Path | None:
    path = Path(output("rev-parse", "--absolute-git-dir", cwd=directory)) / "rebase-merge"
    return path if path.is_dir() else None


def _require_begun(directory: Path) -> None:
    if not git("config", _SERIES, cwd=directory, check=False).stdout.strip():
        raise UserError(f"nothing is being rebased in {directory}", hint="begin with `popcorn kernel rebase`")


def _forget(directory: Path) -> None:
    for ref in (_ONTO, _BASE):
        git("update-ref", "-d", ref, cwd=directory, check=False)
    git("config", "--unset", _SERIES, cwd=directory, check=False)


def _version(directory: Path, base: str) -> str:
    head = output("show", f"{base}:Makefile", cwd=directory).splitlines()[:8]
    numbers = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in head)}
    return ".".join(numbers[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))


def _series_for(series: Series, base: Base) -> str:
    """The series that the patches will be: their own, or a new one for another version."""
    if fits(base, series):
        return series.name
    name = base.version.rpartition(".")[0]
    if (series.dir.parent / name).exists():
        raise UserError(
            f"there is a series {name} already, in {series.dir.parent / name}",
            hint=f"check that one out and rebase it: `popcorn kernel checkout --series {name}`",
        )
    return name


def _make_series(directory: Path, name: str, version: str) -> None:
    """The folder of a new series, with the configuration of the old one; its patches come from `refresh`."""
    old = load_series(output("config", "popcorn.series", cwd=directory))
    folder = old.dir.parent / name
    if folder.exists():
        return
    fresh = folder.with_name(f".{name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(old.dir / "config", fresh / "config")
    write_atomic(fresh / "series", (old.dir / "series").read_text().split("\n", 1)[0] + "\n")
    write_atomic(
        fresh / "base.toml",
        "# SPDX-License-Identifier: GPL-2.0-only\n"
        f"# From the series {old.name}. `popcorn kernel verify --record` updates `tested`.\n"
        f'version = "{name}"\ntested = "{version}"\ndebian = "linux-source-{name}"\n',
    )
    fresh.rename(folder)
