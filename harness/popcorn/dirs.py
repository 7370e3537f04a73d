# SPDX-License-Identifier: Apache-2.0
"""Where things live on the host, and where this project's own files are."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

import platformdirs

from popcorn.errors import HostError


def cache_dir() -> Path:
    """What can be made again: sources, kernels, images. ``$POPCORN_CACHE`` overrides."""
    return _made(_override("POPCORN_CACHE") or platformdirs.user_cache_path("popcorn"))


def runs_dir() -> Path:
    """What was measured. ``$POPCORN_RUNS`` overrides."""
    return _made(_override("POPCORN_RUNS") or platformdirs.user_data_path("popcorn") / "runs")


def snapshots_dir() -> Path:
    """The machines that the user saved under a name. ``$POPCORN_SNAPSHOTS`` overrides."""
    return _made(_override("POPCORN_SNAPSHOTS") or platformdirs.user_data_path("popcorn") / "snapshots")


def runtime_dir() -> Path:
    """Sockets and state of the machines that are up; for this user's eyes only.

    Raises:
        HostError: somebody else owns the directory.
    """
    path = Path("/tmp") / f"popcorn-{os.getuid()}"
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and os.access(base, os.W_OK):
        path = Path(base) / "popcorn"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise HostError(
            f"{path} belongs to user {status.st_uid} or is not a directory",
            hint="remove it, or set XDG_RUNTIME_DIR to a private directory",
        )
    path.chmod(0o700)
    return path


@functools.cache
def source_root() -> Path:
    """The directory that holds kernel-patches/, images/, tools/ and testsuites/.

    That is the checkout, or the copy inside an installed package.
    """
    package = Path(__file__).resolve().parent
    installed = package / "_source"
    if installed.is_dir():
        return installed
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout
    raise HostError(
        f"neither {installed} nor a checkout at {checkout} is there",
        hint="install Popcorn again, or run ./popcorn from a checkout",
    )


def _override(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    return Path(value).expanduser().absolute() if value else None


def _made(path: Path) -> Path:
    # What lies in the cache is run, and what was recorded is nobody else's business.
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        raise HostError(
            f"the folder {path} cannot be made: {error.strerror}",
            hint="POPCORN_CACHE, POPCORN_RUNS and POPCORN_SNAPSHOTS name other places",
        ) from error
    return path
