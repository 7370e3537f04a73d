# SPDX-License-Identifier: Apache-2.0
"""Kernel trees and archives on disk into commits of the cache's repository, each content once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from popcorn.build.base import Base, describe, fits, recall, remember
from popcorn.build.disk import disk_full, need_free_space
from popcorn.build.git import (
    TreeEntry,
    git,
    import_tree,
    linux_repository,
    output,
    repository_lock,
    resolve,
    scratch_index,
)
from popcorn.build.series import Series
from popcorn.build.unpack import archive_entries, decompressed, tree_entries, tree_files
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import sha256_bytes, sha256_file
from popcorn.progress import step

IMPORT_BYTES = 1 << 30
"""Room for one more base in the repository, download included."""


def import_archive(archive: Path, series: Series, origin: str, patches: Sequence[Path] = ()) -> Base:
    """The base in a tarball or a linux-source .deb, changed by patches (plain or compressed files).

    Raises UserError for what is none, or does not fit the series.
    """
    key = "".join(sha256_file(file) for file in (archive, *patches))
    mark = f"refs/popcorn/archive/{(sha256_bytes(key.encode()) if patches else key)[:32]}"
    repository = linux_repository()
    with repository_lock():
        commit = resolve(repository, mark)
        if commit is None:
            with step(f"unpacking {archive.name}") as progress:
                commit = _imported(repository, archive_entries(archive, progress.update), series)
            if patches:
                commit = _patched(repository, commit, patches)
            base = describe(commit, series, origin)
            git("update-ref", mark, commit, cwd=repository)
            return base
    return describe(commit, series, origin)


def import_file(archive: Path, series: Series) -> Base:
    """As `import_archive`, for a file that the user names; one that was read before is not read again."""
    status = archive.stat()
    seen = [str(archive), status.st_size, status.st_mtime_ns, status.st_ino]
    name = f"file-{sha256_bytes(json.dumps(seen).encode())[:16]}"
    known = recall(name)
    if known is not None and fits(known, series):
        return known
    need_free_space(cache_dir(), IMPORT_BYTES, f"unpacking {archive.name}")
    base = import_archive(archive, series, str(archive))
    remember(name, base)
    return base


def import_directory(tree: Path, series: Series) -> Base:
    """The base in a kernel tree; one that was read before and has not changed is not read again. Raises UserError."""
    if not (tree / "Makefile").is_file() or not (tree / "Kconfig").is_file():
        raise UserError(f"{tree} is not a kernel tree: it has no Makefile and Kconfig", hint="name its top directory")
    files = tree_files(tree)
    stamps = [(name, status.st_size, status.st_mtime_ns, status.st_mode) for name, status in files]
    name = f"tree-{sha256_bytes(json.dumps(stamps).encode())[:32]}"
    known = recall(name)
    if known is not None and fits(known, series):
        return known
    need_free_space(cache_dir(), IMPORT_BYTES, f"reading {tree}")
    repository = linux_repository()
    with repository_lock(), step(f"reading the kernel tree {tree}") as progress:
        commit = _imported(repository, tree_entries(tree, files, progress.update), series)
        base = describe(commit, series, str(tree))
        git("update-ref", f"refs/popcorn/tree/{base.tree}", commit, cwd=repository)
    remember(name, base)
    return base


def _imported(repository: Path, entries: Iterable[TreeEntry], series: Series) -> str:
    try:
        return import_tree(repository, entries, f"Base of the series {series.name}\n")
    except OSError as error:
        if error.errno == 28:
            raise disk_full(repository, "keeping the kernel source") from error
        raise


def _patched(repository: Path, commit: str, patches: Sequence[Path]) -> str:
    with scratch_index(repository, commit) as index:
        for patch in patches:
            with decompressed(patch) as stream:
                done = index.git("apply", "--cached", "--whitespace=nowarn", input=stream.read(), check=False)
            if done.returncode != 0:
                raise UserError(
                    f"{patch.name} does not apply to the tree it belongs to: {done.stderr.strip()[:300]}",
                    hint="the files of a release are named in the base.toml of its series",
                )
        return index.commit(output("log", "-1", "--format=%B", commit, cwd=repository), parent=None)
