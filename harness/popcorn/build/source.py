# SPDX-License-Identifier: Apache-2.0
"""Base kernels: from Debian's package, a tarball or a tree to one commit in the cache's repository."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popcorn.build import apt
from popcorn.build.disk import disk_full, need_free_space
from popcorn.build.git import git, import_tree, linux_repository, output, repository_lock, resolve
from popcorn.build.series import Series
from popcorn.build.unpack import archive_entries, tree_entries, tree_files
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import sha256_bytes, sha256_file, write_atomic
from popcorn.progress import note, step

IMPORT_BYTES = 1 << 30
"""Room for one more base in the repository, download included."""


@dataclass(frozen=True)
class Base:
    """A pristine kernel tree in the cache's repository."""

    version: str
    """From its Makefile, e.g. "6.12.117"."""
    origin: str
    """Where it came from, for people."""
    commit: str
    tree: str
    """git's id of the content: what identifies the base."""


def find_base(series: Series, source: Path | None = None, *, update: bool = False) -> Base:
    """The base to apply `series` to: `source` (tree, tarball or linux-source .deb), else Debian's package.

    Debian's is fetched when the cache has none or `update` asks for the newest. A base other than the one the
    series was tested on is told, and is no error. Raises UserError for a source that is not what it should be.
    """
    base = _from_user(series, source) if source is not None else _from_debian(series, update=update)
    if base.version != series.tested:
        note(f"the series {series.name} was tested on {series.tested}; this base is {base.version}")
    return base


def _from_debian(series: Series, *, update: bool) -> Base:
    record = cache_dir() / "source" / f"debian-{series.name}.json"
    known = _recall(record)
    if known is not None and not update:
        return known
    if known is not None and apt.candidate(series.debian_package) == known.origin.rpartition(" ")[2]:
        return known
    download = cache_dir() / "source" / f"download-{os.getpid()}"
    _sweep_downloads()
    need_free_space(cache_dir(), IMPORT_BYTES, f"fetching {series.debian_package}")
    download.mkdir(parents=True)
    try:
        with step(f"downloading Debian's {series.debian_package}"):
            package = apt.download_deb(series.debian_package, download)
        version = package.name.split("_")[1].replace("%3a", ":")
        base = _import_archive(package, series, f"Debian {series.debian_package} {version}")
    finally:
        shutil.rmtree(download, ignore_errors=True)
    _remember(record, base)
    return base


def _from_user(series: Series, source: Path) -> Base:
    source = source.resolve()
    if source.is_dir():
        return _import_directory(source, series)
    if source.is_file():
        status = source.stat()
        seen = [str(source), status.st_size, status.st_mtime_ns, status.st_ino]
        record = cache_dir() / "source" / f"file-{sha256_bytes(json.dumps(seen).encode())[:16]}.json"
        known = _recall(record)
        if known is not None and _fits(known, series):
            return known
        need_free_space(cache_dir(), IMPORT_BYTES, f"unpacking {source.name}")
        base = _import_archive(source, series, str(source))
        _remember(record, base)
        return base
    raise UserError(
        f"the kernel source {source} is not there",
        hint="--source takes a directory, a .tar.xz or .tar.gz, or Debian's linux-source .deb",
    )


def _import_archive(archive: Path, series: Series, origin: str) -> Base:
    mark = f"refs/popcorn/archive/{sha256_file(archive)[:32]}"
    repository = linux_repository()
    with repository_lock():
        commit = resolve(repository, mark)
        if commit is None:
            with step(f"unpacking {archive.name}") as progress:
                entries = archive_entries(archive, progress.update)
                commit = _imported(repository, entries, f"Base of the series {series.name}\n")
            base = _described(repository, commit, series, origin)
            git("update-ref", mark, commit, cwd=repository)
            return base
    return _described(repository, commit, series, origin)


def _import_directory(tree: Path, series: Series) -> Base:
    if not (tree / "Makefile").is_file() or not (tree / "Kconfig").is_file():
        raise UserError(f"{tree} is not a kernel tree: it has no Makefile and Kconfig", hint="name its top directory")
    files = tree_files(tree)
    stamps = [(name, status.st_size, status.st_mtime_ns, status.st_mode) for name, status in files]
    fingerprint = sha256_bytes(json.dumps(stamps).encode())
    record = cache_dir() / "source" / f"tree-{fingerprint[:32]}.json"
    known = _recall(record)
    if known is not None and _fits(known, series):
        return known
    need_free_space(cache_dir(), IMPORT_BYTES, f"reading {tree}")
    repository = linux_repository()
    with repository_lock(), step(f"reading the kernel tree {tree}") as progress:
        entries = tree_entries(tree, files, progress.update)
        commit = _imported(repository, entries, f"Base of the series {series.name}\n")
        base = _described(repository, commit, series, str(tree))
        git("update-ref", f"refs/popcorn/tree/{base.tree}", commit, cwd=repository)
    _remember(record, base)
    return base


def _imported(repository: Path, entries: Any, message: str) -> str:
    try:
        return import_tree(repository, entries, message)
    except OSError as error:
        if error.errno == 28:
            raise disk_full(repository, IMPORT_BYTES, "keeping the kernel source") from error
        raise


def _described(repository: Path, commit: str, series: Series, origin: str) -> Base:
    shown = git("show", f"{commit}:Makefile", cwd=repository, check=False)
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)", shown.stdout, re.MULTILINE))
    if len(found) != 3:
        raise UserError(
            f"{origin} holds no kernel tree: its top Makefile names no VERSION, PATCHLEVEL and SUBLEVEL",
            hint="expected one top directory with a Linux source tree in it",
        )
    version = f"{found['VERSION']}.{found['PATCHLEVEL']}.{found['SUBLEVEL']}"
    base = Base(version, origin, commit, output("rev-parse", f"{commit}^{{tree}}", cwd=repository))
    if not _fits(base, series):
        raise UserError(
            f"{origin} is Linux {version}; the series {series.name} needs {series.version}.y",
            hint="name another source, or another series with --series",
        )
    return base


def _fits(base: Base, series: Series) -> bool:
    return base.version.startswith(series.version + ".")


def _recall(record: Path) -> Base | None:
    try:
        base = Base(**json.loads(record.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    # The cache's repository may have been removed since.
    return base if (cache_dir() / "source" / "linux.git" / "HEAD").is_file() else None


def _remember(record: Path, base: Base) -> None:
    write_atomic(record, json.dumps(asdict(base), indent=1) + "\n")


def _sweep_downloads() -> None:
    for leftover in (cache_dir() / "source").glob("download-*"):
        if not Path(f"/proc/{leftover.name.removeprefix('download-')}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
