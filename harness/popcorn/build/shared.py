# SPDX-License-Identifier: Apache-2.0
"""Files that a series takes from another one, computed from that one's patches alone.

The patches of the other series create those files, so they need no base: each patch is applied in an empty index,
restricted to the paths that are shared.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from popcorn.build.basefile import Shared
from popcorn.build.git import git, linux_repository, output, repository_lock, resolve, scratch_index
from popcorn.build.series import Series, load_series
from popcorn.errors import SeriesError
from popcorn.files import sha256_bytes
from popcorn.progress import step

_RECIPE = 1


def shared_files(series: Series) -> str | None:
    """A commit without a parent that holds what a series takes from another; None when it takes nothing.

    Raises SeriesError when that other series does not create the files, or its patches cannot be replayed without a
    base.
    """
    if series.shared is None:
        return None
    where = series.dir / "base.toml"
    donor = _donor(series, series.shared, where)
    key = sha256_bytes(json.dumps([_RECIPE, donor.patch_hashes(), series.shared.paths]).encode())[:32]
    mark = f"refs/popcorn/shared/{key}"
    repository = linux_repository()
    commit = resolve(repository, mark)
    if commit is None:
        with repository_lock(), step(f"collecting the sources shared with the series {donor.name}"):
            commit = _replay(repository, donor, series.shared, where)
            git("update-ref", mark, commit, cwd=repository)
    return commit


def shared_content(series: Series) -> dict[str, str]:
    """What the shared files are, for keys: name of the other series and git's id of the tree; empty without any."""
    commit = shared_files(series)
    if commit is None or series.shared is None:
        return {}
    return {"series": series.shared.series, "tree": output("rev-parse", f"{commit}^{{tree}}", cwd=linux_repository())}


def add_shared(base_commit: str, series: Series, repository: Path | None = None) -> str:
    """The base with the shared files, as a commit on top of it; the base itself when nothing is shared.

    `repository` is the bare one that has the base, and the cache's as its alternate, if not that itself.

    Raises SeriesError as `shared_files`, and when the base has one of the files already.
    """
    commit = shared_files(series)
    if commit is None or series.shared is None:
        return base_commit
    repository = repository or linux_repository()
    listed = output("ls-tree", "-r", commit, cwd=repository)
    names = output("ls-tree", "-r", "--name-only", commit, cwd=repository).splitlines()
    taken = output("ls-tree", "-r", "--name-only", base_commit, "--", *names, cwd=repository).splitlines()
    if taken:
        raise SeriesError(
            f"{series.dir / 'base.toml'}: the base of the series {series.name} has {taken[0]} already; only files that "
            "are new in both can be shared",
            hint="take it out of shared.paths, and change the base's file by a patch",
        )
    with scratch_index(repository, base_commit) as index:
        index.git("update-index", "--index-info", input=listed + "\n")
        return index.commit(_message(series.shared), parent=base_commit)


def _message(shared: Shared) -> str:
    paths = "".join(f"  {path}\n" for path in shared.paths)
    return (
        f"popcorn: sources shared with the series {shared.series}\n\n"
        f"As the last patch of the series {shared.series} leaves them:\n\n{paths}\n"
        f"They are changed there, and nowhere else.\n"
    )


def _donor(series: Series, shared: Shared, where: Path) -> Series:
    if shared.series == series.name:
        raise SeriesError(f"{where}: shared.series is {shared.series!r}, the series itself")
    folder = series.dir.parent / shared.series
    if not (folder / "base.toml").is_file():
        raise SeriesError(f"{where}: shared.series: there is no series {shared.series!r} in {folder.parent}")
    donor = load_series(shared.series, folder)
    if donor.shared is not None:
        raise SeriesError(f"{where}: shared.series: the series {donor.name} takes files from another one itself")
    return donor


def _replay(repository: Path, donor: Series, shared: Shared, where: Path) -> str:
    wanted = [f"--include={pattern}" for path in shared.paths for pattern in (path, f"{path}/*")]
    with scratch_index(repository) as index:
        for patch in donor.patches:
            done = index.git("apply", "--cached", "--whitespace=nowarn", *wanted, patch, check=False)
            if done.returncode != 0:
                raise _cannot_replay(done.stderr, patch, donor, where)
        made = index.git("ls-files").stdout.splitlines()
        for path in shared.paths:
            if not any(name == path or name.startswith(f"{path}/") for name in made):
                raise SeriesError(
                    f"{where}: shared.paths: no patch of the series {donor.name} creates {path}",
                    hint=f"shared are files that the series {donor.name} adds; its patches are in {donor.dir}",
                )
        return index.commit(f"Shared by the series {donor.name}\n", parent=None)


def _cannot_replay(said: str, patch: Path, donor: Series, where: Path) -> SeriesError:
    if found := re.search(r"^error: (.+): (?:does not exist in index|No such file or directory)$", said, re.MULTILINE):
        return SeriesError(
            f"{where}: shared.paths: {patch.name} changes {found.group(1)}, which the base of the series {donor.name} "
            "has; only files that the series adds can be shared",
            hint=f"name the files that it adds one by one instead of the folder, without {found.group(1)}",
        )
    lines = said.strip().splitlines()
    return SeriesError(
        f"{where}: what {patch.name} does to the shared paths cannot be replayed without a base: "
        f"{lines[0] if lines else 'git apply gave no reason'}",
        hint="a patch may add, change and remove the shared files, but not rename a file of the base into them; "
        f"the patch is {patch}",
    )
