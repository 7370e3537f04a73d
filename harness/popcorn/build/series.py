# SPDX-License-Identifier: Apache-2.0
"""The ordered patches for one base kernel, as files: `kernel-patches/NAME/{series,base.toml,*.patch,config/}`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from popcorn.build.basefile import IgnoredFinding, KernelOrg, Shared, load_base_file
from popcorn.dirs import source_root
from popcorn.errors import SeriesError, UserError
from popcorn.files import sha256_file


@dataclass(frozen=True)
class Series:
    """A series as it lies in its folder; nothing is applied yet."""

    name: str
    dir: Path
    patches: tuple[Path, ...]
    version: str
    """Version and patch level every base must have, e.g. "6.12"."""
    tested: str
    """Version of the base that the series was last verified on, e.g. "6.12.117"."""
    debian_package: str | None = None
    """Debian's package that holds the base, e.g. "linux-source-6.12"."""
    kernel_org: KernelOrg | None = None
    """The release that is the base, where Debian has none."""
    nr_base_patches: int = 0
    """So many patches at the head of the series only make a current toolchain build the base."""
    shared: Shared | None = None
    """What it takes from another series, applied before the patches."""
    checkpatch_ignored: tuple[IgnoredFinding, ...] = ()
    """Findings that do not count, each in one file."""

    def patch_hashes(self) -> list[list[str]]:
        """[file name, sha256] of each patch, in order."""
        return [[patch.name, sha256_file(patch)] for patch in self.patches]

    def without_popcorn(self) -> Series:
        """What the base needs to be built at all: the patches for the toolchain, and nothing else."""
        return replace(self, patches=self.patches[: self.nr_base_patches], shared=None)


def series_names() -> list[str]:
    """The series that exist."""
    return sorted(path.parent.name for path in (source_root() / "kernel-patches").glob("*/base.toml"))


def load_series(name: str, directory: Path | None = None) -> Series:
    """Read a series' folder. Raises UserError for an unknown one, SeriesError for one that lists what is not there."""
    folder = directory or source_root() / "kernel-patches" / name
    if not (folder / "base.toml").is_file():
        known = ", ".join(series_names()) or "none"
        raise UserError(f"there is no series {name!r}", hint=f"series in {folder.parent}: {known}")
    base = load_base_file(folder / "base.toml")
    patches = tuple(folder / patch for patch in patch_names(folder / "series"))
    return Series(
        name=name,
        dir=folder,
        patches=patches,
        version=base.version,
        tested=base.tested,
        debian_package=base.debian,
        kernel_org=base.kernel_org,
        nr_base_patches=_nr_base_patches(folder, patches, base.builds_from),
        shared=base.shared,
        checkpatch_ignored=base.checkpatch_ignored,
    )


def patch_names(path: Path) -> list[str]:
    """The patches that a series file lists, in order. Raises SeriesError naming the line that is wrong."""
    names: list[str] = []
    if not path.is_file():
        raise SeriesError(f"{path} is missing", hint="it lists the patches in order, one file name a line")
    there = {one.name for one in path.parent.iterdir() if one.is_file()}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if not re.fullmatch(r"[\w.+-]+\.patch", name):
            raise SeriesError(f"{path}:{number}: expected the name of a .patch file, found {name!r}")
        if name in names:
            raise SeriesError(f"{path}:{number}: {name} is listed twice")
        if name not in there:
            raise SeriesError(
                f"{path}:{number}: {name} is not in {path.parent}",
                hint="add the file, or remove the line; `popcorn kernel refresh` writes both",
            )
        names.append(name)
    return names


def unnumbered(patch: str) -> str:
    """A patch's name without what moving it in the series changes: `0003-x86-y.patch` is `x86-y`."""
    return re.sub(r"^\d+-", "", patch).removesuffix(".patch")


def _nr_base_patches(folder: Path, patches: tuple[Path, ...], builds_from: str | None) -> int:
    if builds_from is None:
        return 0
    names = [unnumbered(patch.name) for patch in patches]
    if builds_from not in names:
        raise SeriesError(
            f"{folder / 'base.toml'}: builds_from names {builds_from!r}, which the series has not",
            hint="it is the name, without number and .patch, of the first patch with which a current toolchain builds "
            "the base",
        )
    return names.index(builds_from) + 1
