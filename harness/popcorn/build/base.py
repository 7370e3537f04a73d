# SPDX-License-Identifier: Apache-2.0
"""Base kernels that the cache has: each one commit in its repository, described by a small record."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from popcorn.build.git import git, linux_repository, output, resolve
from popcorn.build.series import Series
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
from popcorn.files import write_atomic


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


def describe(commit: str, series: Series, origin: str) -> Base:
    """The base that a commit is. Raises UserError when it is no kernel, or one of another version than the series'."""
    repository = linux_repository()
    shown = git("show", f"{commit}:Makefile", cwd=repository, check=False)
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)", shown.stdout, re.MULTILINE))
    if len(found) != 3:
        raise UserError(
            f"{origin} holds no kernel tree: its top Makefile names no VERSION, PATCHLEVEL and SUBLEVEL",
            hint="expected one top directory with a Linux source tree in it",
        )
    version = f"{found['VERSION']}.{found['PATCHLEVEL']}.{found['SUBLEVEL']}"
    base = Base(version, origin, commit, output("rev-parse", f"{commit}^{{tree}}", cwd=repository))
    if not fits(base, series):
        raise UserError(
            f"{origin} is Linux {version}; the series {series.name} needs {series.version}.y",
            hint="name another source, or another series with --series",
        )
    return base


def fits(base: Base, series: Series) -> bool:
    """Whether a base has the version that a series is for; one for no version is for any."""
    return not series.version or base.version.startswith(series.version + ".")


def recall(name: str) -> Base | None:
    """The base that was remembered under a name, if the repository still has it."""
    try:
        base = Base(**json.loads(_record(name).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    # The cache's repository may have been removed since.
    if not (cache_dir() / "source" / "linux.git" / "HEAD").is_file():
        return None
    return base if resolve(linux_repository(), f"{base.commit}^{{commit}}") is not None else None


def remember(name: str, base: Base) -> None:
    """Keep a base under a name for `recall`."""
    write_atomic(_record(name), json.dumps(asdict(base), indent=1) + "\n")


def _record(name: str) -> Path:
    return cache_dir() / "source" / f"{name}.json"
