# SPDX-License-Identifier: Apache-2.0
"""The ordered patches for one base kernel, as files: `kernel-patches/NAME/{series,base.toml,*.patch,config/}`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from popcorn.dirs import source_root
from popcorn.errors import UserError
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
    debian_package: str
    """Debian's package that holds the base, e.g. "linux-source-6.12"."""

    def patch_hashes(self) -> list[list[str]]:
        """[file name, sha256] of each patch, in order."""
        return [[patch.name, sha256_file(patch)] for patch in self.patches]


def series_names() -> list[str]:
    """The series that exist."""
    return sorted(path.parent.name for path in (source_root() / "kernel-patches").glob("*/base.toml"))


def load_series(name: str, directory: Path | None = None) -> Series:
    """Read a series' folder. Raises UserError for a series that is unknown or lists what is not there."""
    folder = directory or source_root() / "kernel-patches" / name
    if not (folder / "base.toml").is_file():
        known = ", ".join(series_names()) or "none"
        raise UserError(f"there is no series {name!r}", hint=f"series in {folder.parent}: {known}")
    base = _load_base(folder / "base.toml")
    return Series(
        name=name,
        dir=folder,
        patches=tuple(folder / patch for patch in patch_names(folder / "series")),
        version=base["version"],
        tested=base["tested"],
        debian_package=base["debian"],
    )


def _load_base(path: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}", hint="its keys are version, tested and debian") from error
    for key in ("version", "tested", "debian"):
        if not isinstance(table.get(key), str):
            raise UserError(f'{path}: expected {key} = "…", found {table.get(key)!r}')
    return {key: str(value) for key, value in table.items()}


def patch_names(path: Path) -> list[str]:
    """The patches that a series file lists, in order. Raises UserError naming the line that is wrong."""
    names: list[str] = []
    if not path.is_file():
        raise UserError(f"{path} is missing", hint="it lists the patches in order, one file name a line")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if not re.fullmatch(r"[\w.+-]+\.patch", name):
            raise UserError(f"{path}:{number}: expected the name of a .patch file, found {name!r}")
        if name in names:
            raise UserError(f"{path}:{number}: {name} is listed twice")
        if not (path.parent / name).is_file():
            raise UserError(
                f"{path}:{number}: {name} is not in {path.parent}",
                hint="add the file, or remove the line; `popcorn kernel refresh` writes both",
            )
        names.append(name)
    return names
