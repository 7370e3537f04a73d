# SPDX-License-Identifier: Apache-2.0
"""The series as a git tree for people to work in, and the way back from its commits to patch files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.apply import Applied, apply_series
from popcorn.build.disk import need_free_space
from popcorn.build.git import git
from popcorn.build.patchtree import (
    fetch_commit,
    finished_checkout,
    record_base,
    refuse_unknown_patches,
    refuse_unwritten,
    remember_patches,
    same_patch,
    show_new_files,
)
from popcorn.build.series import Series, load_series
from popcorn.build.source import find_base
from popcorn.build.workspace import WORKSPACE_BYTES
from popcorn.errors import UserError
from popcorn.files import write_atomic
from popcorn.progress import step

# Everything that a configuration or a version of git could change is spelled out.
_FORMAT = (
    "format-patch", "--quiet", "--zero-commit", "--no-signature", "--no-numbered", "--abbrev=12",
    "--no-thread", "--no-attach", "--no-cover-letter", "--no-base", "--no-notes", "--no-to", "--no-cc",
    "--no-add-header", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv", "--diff-algorithm=myers",
    "--indent-heuristic", "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/",
    "--stat=72", "--summary", "--subject-prefix=PATCH", "--suffix=.patch", "--filename-max-length=64",
    "--encode-email-headers",
)  # fmt: skip
_SERIES_HEAD = (
    "# SPDX-License-Identifier: GPL-2.0-only\n"
    "# The patches in the order they are applied; `popcorn kernel refresh` writes this list.\n"
)


@dataclass(frozen=True)
class Refreshed:
    """What `refresh` did to the series' folder."""

    patches: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def checkout(directory: Path, series_name: str = "6.12", source: Path | None = None) -> Applied:
    """Make `directory`, which must not exist or be empty, a git work tree with one commit for each patch.

    Before those comes one with the files that the series takes from another, if it does.
    The tree is the user's: it shares nothing with the cache that could vanish with it.
    Raises UserError when the directory is in use or the series does not apply.
    """
    directory = directory.resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} is not empty", hint="name a directory that does not exist yet")
    series = load_series(series_name)
    base = find_base(series, source)
    applied = apply_series(base, series)
    parent = directory.parent
    while not parent.exists():
        parent = parent.parent
    need_free_space(parent, WORKSPACE_BYTES, f"a kernel tree in {directory}")
    told = f"checking out Linux {base.version} and {len(applied.commits)} patches into {directory}"
    with step(told), _whole_or_empty(directory):
        branch = f"popcorn-{series.name}"
        git("init", "--quiet", f"--initial-branch={branch}", cwd=directory)
        fetch_commit(directory, applied.head, f"refs/heads/{branch}")
        git("reset", "--quiet", "--hard", branch, cwd=directory)
        show_new_files(directory)
        remember_patches(directory, series)
        # Last, as it makes a folder a checkout.
        record_base(directory, series.name, base.commit, applied.start)
    return applied


@contextlib.contextmanager
def _whole_or_empty(directory: Path) -> Iterator[None]:
    """Make a folder that is there or not as it was, unless all goes well."""
    there = directory.is_dir()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for one in directory.iterdir():
            shutil.rmtree(one, ignore_errors=True) if one.is_dir() and not one.is_symlink() else one.unlink()
        if not there:
            directory.rmdir()
        raise


def refresh(directory: Path) -> Refreshed:
    """Write the commits of a work tree made by `checkout` back as the series' patch files and its list.

    Only files whose content changes are written; with nothing changed, nothing is. Raises UserError for a tree that
    was not made by `checkout`, has uncommitted changes, holds merges, or changed the files of another series; and when
    the series' folder holds other patches than those it was made from or wrote.
    """
    tree = finished_checkout(directory)
    refuse_unwritten(tree)
    refuse_unknown_patches(tree.directory, tree.series)
    with tempfile.TemporaryDirectory(prefix="popcorn-refresh-") as scratch:
        git(*_FORMAT, f"--output-directory={scratch}", f"{tree.start}..HEAD", cwd=tree.directory)
        made = {path.name: path.read_bytes() for path in sorted(Path(scratch).glob("*.patch"))}
    done = _write(tree.series, made)
    remember_patches(tree.directory, load_series(tree.series.name, tree.series.dir))
    return done


def _write(series: Series, made: dict[str, bytes]) -> Refreshed:
    changed = []
    for name, content in made.items():
        path = series.dir / name
        if not path.is_file() or not same_patch(path.read_bytes(), content):
            write_atomic(path, content)
            changed.append(name)
    listed = _SERIES_HEAD + "".join(f"{name}\n" for name in made)
    path = series.dir / "series"
    if path.read_text() != listed:
        write_atomic(path, listed)
        changed.append("series")
    # A file that the list does not name is none of the series, and somebody's.
    removed = [path.name for path in series.patches if path.name not in made]
    for name in removed:
        (series.dir / name).unlink()
    return Refreshed(tuple(made), tuple(changed), tuple(removed))
