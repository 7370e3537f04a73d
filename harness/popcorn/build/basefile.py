# SPDX-License-Identifier: Apache-2.0
"""What a series' base.toml says: the kernel it is for, where that comes from, what it takes from another series."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from popcorn.config.toml import read_toml

Text = Annotated[str, StringConstraints(strict=True, min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleaseFile(_Table):
    """A file at kernel.org and what must be in it."""

    name: Text
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class KernelOrg(_Table):
    """A release at kernel.org, e.g. version "3.2.14"."""

    version: Text
    files: Annotated[tuple[ReleaseFile, ...], Field(min_length=1)]
    """A tarball, and after it the patches that make it the release."""

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: tuple[ReleaseFile, ...]) -> tuple[ReleaseFile, ...]:
        for number, file in enumerate(files):
            kind, pattern = ("patch", r"patch-[\w.-]+") if number else ("tarball", r"linux-[\w.-]+\.tar")
            if not re.fullmatch(pattern + r"\.(xz|gz|bz2)", file.name):
                raise ValueError(f"expected a {kind} (.xz, .gz or .bz2), found {file.name!r}")
        return files


class Shared(_Table):
    """Files that another series adds and this one takes as they are."""

    series: Text
    paths: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Files or folders, from the tree's root."""

    @field_validator("paths")
    @classmethod
    def _check_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for one in paths:
            if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", one) or ".." in one.split("/"):
                raise ValueError(f"{one!r} is no path of a file or folder from the tree's root")
        for number, one in enumerate(paths):
            for other in (*paths[:number], *paths[number + 1 :]):
                if one == other or one.startswith(other + "/"):
                    raise ValueError(f"{one} is in {other}, which is listed too")
        return paths


class IgnoredFinding(_Table):
    """What checkpatch says wrongly about a file."""

    finding: Annotated[str, StringConstraints(pattern=r"^[A-Z_]+$")]
    """Its type as `popcorn kernel verify` shows it, e.g. "MACRO_ARG_REUSE"."""
    path: Text
    """The file, from the tree's root."""
    why: Text


class BaseFile(_Table):
    """One base.toml. Either Debian or kernel.org has the base."""

    version: Text
    tested: Text
    debian: Text | None = None
    builds_from: Text | None = None
    checkpatch_ignored: tuple[IgnoredFinding, ...] = ()
    kernel_org: KernelOrg | None = None
    shared: Shared | None = None

    @model_validator(mode="after")
    def _check_origin(self) -> BaseFile:
        if (self.debian is None) == (self.kernel_org is None):
            found = "both" if self.debian else "neither"
            raise ValueError(f'expected either debian = "…" or [kernel_org], found {found}')
        if self.kernel_org and not self.kernel_org.version.startswith(self.version + "."):
            raise ValueError(f"kernel_org.version is {self.kernel_org.version}; expected one of {self.version}.y")
        return self


def load_base_file(path: Path) -> BaseFile:
    """Read a base.toml. Raises UserError, which names the file, the line and the key that is wrong."""
    return read_toml(path, BaseFile)
