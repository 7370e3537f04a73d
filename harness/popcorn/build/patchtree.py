# SPDX-License-Identifier: Apache-2.0
"""A user's git tree with a series as commits: what it is a checkout of, and whether it is fit to become patches."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from popcorn.build.git import git, linux_repository, output, resolve
from popcorn.build.series import Series, load_series
from popcorn.build.shared import shared_files
from popcorn.errors import UserError
from popcorn.files import sha256_bytes, write_atomic
from popcorn.progress import note

TEMPLATE_MARK = "# popcorn kernel new:"
"""A line that begins so stands in a message that nobody has written yet."""
_IGNORING_ALL = ("/*", "!/debian/")


def fetch_commit(directory: Path, commit: str, ref: str) -> None:
    """Copy a commit of the cache's repository into a work tree of the user's, under a name."""
    repository = linux_repository()
    # By object id, so only what it needs is copied.
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=repository)
    fetch = ("-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags", "--update-head-ok")
    git(*fetch, repository, f"+{commit}:{ref}", cwd=directory)


def record_base(directory: Path, series: str, base: str, start: str) -> None:
    """Note what a work tree is a checkout of: the series, its base, and what the patches lie on."""
    git("update-ref", "refs/popcorn/base", base, cwd=directory)
    git("config", "popcorn.series", series, cwd=directory)
    git("config", "popcorn.base", base, cwd=directory)
    if start != base:
        git("config", "popcorn.shared", start, cwd=directory)
    else:
        git("config", "--unset", "popcorn.shared", cwd=directory, check=False)


def same_patch(one: bytes, other: bytes) -> bool:
    """Whether two patch files say the same."""
    return _abbreviated(one) == _abbreviated(other)


def remember_patches(directory: Path, series: Series) -> None:
    """Note that a work tree knows the patch files that lie in its series' folder now."""
    if _content(series) not in _known(directory, series):
        git("config", "--add", _known_key(series), _content(series), cwd=directory)


def refuse_unknown_patches(directory: Path, series: Series) -> None:
    """Refuse to replace patch files that this work tree neither was made from nor wrote. Raises UserError."""
    known = _known(directory, series)
    # A checkout of before this was noted knows nothing.
    if known and series.patches and _content(series) not in known:
        raise UserError(
            f"the patches in {series.dir} have changed since {directory} was checked out or refreshed last: somebody "
            "else's changes would be lost",
            hint="check out anew into another directory, and take your commits there (git fetch, git cherry-pick); "
            "or put the patches back as they were",
        )


def _known(directory: Path, series: Series) -> list[str]:
    return git("config", "--get-all", _known_key(series), cwd=directory, check=False).stdout.split()


def _known_key(series: Series) -> str:
    return f"popcorn.{series.name}.patches"


def _content(series: Series) -> str:
    """The patches of a series as they lie in its folder, in a word."""
    listed = [[patch.name, sha256_bytes(_abbreviated(patch.read_bytes()))] for patch in series.patches]
    return sha256_bytes(json.dumps(listed).encode())


def _abbreviated(patch: bytes) -> bytes:
    # How many digits of an object's id git prints depends on the repository: no reason to rewrite a patch.
    return re.sub(
        rb"^index ([0-9a-f]{7})[0-9a-f]*\.\.([0-9a-f]{7})[0-9a-f]*", rb"index \1..\2", patch, flags=re.MULTILINE
    )


@dataclass(frozen=True)
class Checkout:
    """A work tree made by `checkout`."""

    directory: Path
    series: Series
    base: str
    start: str
    """The commit that the patches lie on."""

    def commits(self) -> list[str]:
        """The patches, in order."""
        return output("rev-list", "--reverse", f"{self.start}..HEAD", cwd=self.directory).split()


def finished_checkout(directory: Path) -> Checkout:
    """A work tree whose commits are a series: nothing uncommitted, no merge, nothing half done.

    Raises UserError for a tree that was not made by `checkout`, has uncommitted changes, holds merges, or changed the
    files of another series.
    """
    directory, name, base = known_checkout(directory)
    _refuse_unfinished(directory, base)
    series = load_series(name)
    return Checkout(directory, series, base, _start(directory, series, base))


def known_checkout(directory: Path) -> tuple[Path, str, str]:
    """The folder of a work tree made by `checkout`, its series' name and its base. Raises UserError for another."""
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
    return directory, name, base


def show_new_files(directory: Path) -> None:
    """Have git tell of every new file in a work tree."""
    # Debian's sources ignore everything that is not packaging: git would pass over a new file without a word, and so
    # would refresh.  The lines go from the work tree alone.
    path = directory / ".gitignore"
    text = path.read_text() if path.is_file() else ""
    kept = "".join(line for line in text.splitlines(keepends=True) if line.strip() not in _IGNORING_ALL)
    if kept != text:
        git("update-index", "--skip-worktree", path.name, cwd=directory)
        write_atomic(path, kept)


def restore_ignored(directory: Path) -> None:
    """Undo `show_new_files`: what follows changes the file itself."""
    if output("ls-files", "-v", ".gitignore", cwd=directory).startswith("S"):
        git("update-index", "--no-skip-worktree", ".gitignore", cwd=directory)
        git("checkout", "--quiet", "--", ".gitignore", cwd=directory)


def refuse_unwritten(tree: Checkout) -> None:
    """Refuse patches that `popcorn kernel new` began and nobody wrote. Raises UserError naming the first."""
    before = output("rev-parse", f"{tree.start}^{{tree}}", cwd=tree.directory)
    listed = output("log", "--reverse", "--format=%h%n%T%n%B%x00", f"{tree.start}..HEAD", cwd=tree.directory)
    for record in listed.split("\0")[:-1]:
        commit, content, message = record.strip().split("\n", 2)
        subject = message.partition("\n")[0]
        if TEMPLATE_MARK in message:
            raise UserError(
                f"the message of {commit} ({subject}) is a template still",
                hint="write it: git commit --amend, or git rebase -i for one below the top",
            )
        if content == before:
            raise UserError(
                f"{commit} ({subject}) changes nothing",
                hint="add its changes (git commit --amend -a), or drop it (git rebase -i)",
            )
        before = content


def _refuse_unfinished(directory: Path, base: str) -> None:
    dirty = output("status", "--porcelain", cwd=directory).splitlines()
    if dirty:
        listed = ", ".join(line[3:] for line in dirty[:5]) + (" …" if len(dirty) > 5 else "")
        raise UserError(
            f"{directory} has changes that are not committed: {listed}",
            hint="commit them (`git commit --amend` or --fixup with rebase), or remove them, then try again",
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
