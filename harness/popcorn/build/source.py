# SPDX-License-Identifier: Apache-2.0
"""Which base kernel a series is applied to: the one the user names, the one kept from before, or one fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popcorn.build import apt, kernelorg
from popcorn.build.base import Base, fits, recall, remember
from popcorn.build.basefile import KernelOrg
from popcorn.build.disk import need_free_space
from popcorn.build.importing import IMPORT_BYTES, import_archive, import_directory, import_file
from popcorn.build.series import Series
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.progress import note, step


def find_base(series: Series, source: Path | None = None, *, update: bool = False) -> Base:
    """The base to apply `series` to.

    That is `source` (tree, tarball or linux-source .deb). Without it, where Debian has the base: Debian's package,
    fetched when the cache has none or `update` asks for the newest. Where kernel.org has it: the base that the cache
    kept for the series, a source the user named before included, else (or with `update`) the release at kernel.org.

    A base other than the one the series was tested on is told, and is no error. Raises UserError for a source that is
    not what it should be, HostError for one that cannot be had.
    """
    if source is not None:
        base = _from_user(series, source)
        if series.kernel_org is not None:
            remember(_kept(series), base)
    elif series.debian_package is not None:
        base = _from_debian(series, series.debian_package, update=update)
    else:
        assert series.kernel_org is not None  # base.toml has either
        base = _from_kernel_org(series, series.kernel_org, update=update)
    if base.version != series.tested:
        note(f"the series {series.name} was tested on {series.tested}; this base is {base.version}")
    return base


def at_hand(series: Series) -> bool:
    """Whether `find_base` without a source needs no network."""
    return recall(_kept(series) if series.kernel_org is not None else _debian(series)) is not None


def _from_user(series: Series, source: Path) -> Base:
    source = source.resolve()
    if source.is_dir():
        return import_directory(source, series)
    if source.is_file():
        return import_file(source, series)
    raise UserError(
        f"the kernel source {source} is not there",
        hint="--source takes a directory, a .tar.xz or .tar.gz, or Debian's linux-source .deb",
    )


def _from_debian(series: Series, name: str, *, update: bool) -> Base:
    known = recall(_debian(series))
    if known is not None and not update:
        return known
    if known is not None and apt.candidate(name) == known.origin.rpartition(" ")[2]:
        return known
    with _download_folder(name) as folder:
        with step(f"downloading Debian's {name}"):
            package = apt.download_deb(name, folder)
        version = package.name.split("_")[1].replace("%3a", ":")
        base = import_archive(package, series, f"Debian {name} {version}")
    remember(_debian(series), base)
    return base


def _from_kernel_org(series: Series, release: KernelOrg, *, update: bool) -> Base:
    known = recall(_kept(series))
    if known is not None and fits(known, series) and not update:
        note(f"base of the series {series.name}: Linux {known.version} from {known.origin}, kept in the cache")
        return known
    with _download_folder(f"Linux {release.version}") as folder:
        tarball, *patches = kernelorg.download(release, folder)
        base = import_archive(tarball, series, f"kernel.org's Linux {release.version}", patches)
    remember(_kept(series), base)
    return base


def _debian(series: Series) -> str:
    return f"debian-{series.name}"


def _kept(series: Series) -> str:
    return f"kept-{series.name}"


@contextmanager
def _download_folder(what: str) -> Iterator[Path]:
    """A folder for one download, gone afterwards; those of commands that were killed are cleared away."""
    for leftover in (cache_dir() / "source").glob("download-*"):
        if not Path(f"/proc/{leftover.name.removeprefix('download-')}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
    need_free_space(cache_dir(), IMPORT_BYTES, f"fetching {what}")
    folder = cache_dir() / "source" / f"download-{os.getpid()}"
    # Left by a predecessor with this very number, if it is there.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
