# SPDX-License-Identifier: Apache-2.0
"""The series as a git tree for people to work in, and the way back from its commits to patch files."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.apply import Applied, apply_series
from popcorn.build.disk import need_free_space
from popcorn.build.git import git, linux_repository, output, resolve
from popcorn.build.series import Series, load_series
from popcorn.build.shared import shared_files
from popcorn.build.source import find_base
from popcorn.build.workspace import WORKSPACE_BYTES
from popcorn.errors import UserError
from popcorn.files import write_atomic
from popcorn.progress import note, step

# Everything that a configuration or a version of git could change is spelled out.
_FORMAT = (
    "format-patch", "--quiet", "--zero-commit", "--no-signature", "--no-numbered", "--abbrev=12",
    "--no-thread", "--no-attach", "--no-cover-letter", "--no-base", "--no-notes", "--no-to", "--no-cc",
    "--no-add-header", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv", "--diff-algorithm=myers",
    "--indent-heuristic", "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/",
    "--stat=72", "--summary", "--subject-prefix=PATCH", "--suffix=.patch", "--filename-max-length=64",
    "--encode-email-headers",
)  # fmt: skip
_IGNORING_ALL = ("/*", "!/debian/")
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
    with step(f"checking out Linux {base.version} and {len(applied.commits)} patches into {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
        branch = f"popcorn-{series.name}"
        git("init", "--quiet", f"--initial-branch={branch}", cwd=directory)
        repository = linux_repository()
        # By object id, so only what the series needs is copied.
        fetch = ("-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags")
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=repository)
        git(*fetch, repository, f"{applied.head}:refs/heads/{branch}", "--update-head-ok", cwd=directory)
        git("reset", "--quiet", "--hard", branch, cwd=directory)
        _show_new_files(directory)
        git("update-ref", "refs/popcorn/base", base.commit, cwd=directory)
        git("config", "popcorn.series", series.name, cwd=directory)
        git("config", "popcorn.base", base.commit, cwd=directory)
        if applied.start != base.commit:
            git("config", "popcorn.shared", applied.start, cwd=directory)
    return applied


def _show_new_files(directory: Path) -> None:
    # Debian's sources ignore everything that is not packaging: git would pass over a new file without a word, and so
    # would refresh.  The lines go from the work tree alone.
    path = directory / ".gitignore"
    text = path.read_text() if path.is_file() else ""
    kept = "".join(line for line in text.splitlines(keepends=True) if line.strip() not in _IGNORING_ALL)
    if kept != text:
        git("update-index", "--skip-worktree", path.name, cwd=directory)
        write_atomic(path, kept)


def refresh(directory: Path) -> Refreshed:
    """Write the commits of a work tree made by `checkout` back as the series' patch files and its list.

    Only files whose content changes are written; with nothing changed, nothing is. Raises UserError for a tree that
    was not made by `checkout`, has uncommitted changes, holds merges, or changed the files of another series.
    """
    directory = directory.resolve()
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}", hint="make it with `popcorn kernel checkout DIR`")
    base = git("config", "popcorn.base", cwd=directory, check=False).stdout.strip()
    name = git("config", "popcorn.series", cwd=directory, check=False).stdout.strip()
    if not base or not name or resolve(directory, f"{base}^{{commit}}") is None:
        raise UserError(
            f"{directory} was not made by `popcorn kernel checkout`",
            hint="name the directory of such a checkout",
        )
    _refuse_unfinished(directory, base)
    series = load_series(name)
    start = _start(directory, series, base)
    with tempfile.TemporaryDirectory(prefix="popcorn-refresh-") as scratch:
        git(*_FORMAT, f"--output-directory={scratch}", f"{start}..HEAD", cwd=directory)
        made = {path.name: path.read_bytes() for path in sorted(Path(scratch).glob("*.patch"))}
    return _write(series, made)


def _refuse_unfinished(directory: Path, base: str) -> None:
    dirty = output("status", "--porcelain", cwd=directory).splitlines()
    if dirty:
        listed = ", ".join(line[3:] for line in dirty[:5]) + (" …" if len(dirty) > 5 else "")
        raise UserError(
            f"{directory} has changes that are not committed: {listed}",
            hint="commit them (`git commit --amend` or --fixup with rebase), or remove them, then refresh again",
        )
    git_dir = Path(output("rev-parse", "--absolute-git-dir", cwd=directory))
    if any((git_dir / name).exists() for name in ("rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD")):
        raise UserError(f"{directory} is in the middle of a rebase or merge", hint="finish or abort it first")
    if git("merge-base", "--is-ancestor", base, "HEAD", cwd=directory, check=False).returncode != 0:
        raise UserError(
            f"the commits in {directory} do not start from the base {base[:12]} it was checked out with",
            hint=f"rebase them onto it: git rebase --onto {base[:12]} …",
        )
    merges = output("rev-list", "--merges", f"{base}..HEAD", cwd=directory).split()
    if merges:
        raise UserError(f"commit {merges[0][:12]} is a merge; a series is a straight line", hint="rebase it away")


def _start(directory: Path, series: Series, base: str) -> str:
    """The commit on which the patches lie: the base, or the one with the files of another series."""
    shared = git("config", "popcorn.shared", cwd=directory, check=False).stdout.strip()
    if not shared or series.shared is None:
        return base
    first = output("rev-list", "--reverse", f"{base}..HEAD", cwd=directory).partition("\n")[0] or base
    changed = output("diff", "--name-only", "--no-renames", shared, first, cwd=directory).splitlines()
    if changed:
        listed = ", ".join(changed[:3]) + (" …" if len(changed) > 3 else "")
        raise UserError(
            f"the first commit of {directory} does not hold the files of the series {series.shared.series} as they "
            f"are there any more: {listed}",
            hint=f"these files belong to the series {series.shared.series}: change them there, or by a commit of "
            f"their own; put the first commit back with git rebase -i {base[:12]} (it was {shared[:12]})",
        )
    theirs = output("ls-tree", "-r", shared_files(series) or "", cwd=linux_repository())
    if theirs != output("ls-tree", "-r", first, "--", *series.shared.paths, cwd=directory):
        note(
            f"the series {series.shared.series} has changed its files since this checkout; a new one "
            "(`popcorn kernel checkout`) shows whether these patches fit"
        )
    return first


def _write(series: Series, made: dict[str, bytes]) -> Refreshed:
    changed = []
    for name, content in made.items():
        path = series.dir / name
        if not path.is_file() or _abbreviated(path.read_bytes()) != _abbreviated(content):
            write_atomic(path, content)
            changed.append(name)
    listed = _SERIES_HEAD + "".join(f"{name}\n" for name in made)
    path = series.dir / "series"
    if path.read_text() != listed:
        write_atomic(path, listed)
        changed.append("series")
    removed = [path.name for path in sorted(series.dir.glob("*.patch")) if path.name not in made]
    for name in removed:
        (series.dir / name).unlink()
    return Refreshed(tuple(made), tuple(changed), tuple(removed))


def _abbreviated(patch: bytes) -> bytes:
    # How many digits of an object's id git prints depends on the repository: no reason to rewrite a patch.
    return re.sub(
        rb"^index ([0-9a-f]{7})[0-9a-f]*\.\.([0-9a-f]{7})[0-9a-f]*", rb"index \1..\2", patch, flags=re.MULTILINE
    )
