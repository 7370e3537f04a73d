# SPDX-License-Identifier: Apache-2.0
"""Debian packages, binary and source, without root and without touching the system's own package lists.

The system's lists are used when they are good enough. Otherwise apt works on a private copy of its state in the
cache: the same repositories (as `apt-get indextargets` tells them) with `deb-src` added. Signatures are checked by
apt in both cases.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from popcorn.build.disk import disk_full
from popcorn.build.store import locked
from popcorn.dirs import cache_dir
from popcorn.errors import HostError, UserError
from popcorn.files import write_atomic
from popcorn.process import Completed, run
from popcorn.progress import step

_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FRESH_S = 12 * 3600
# strerror(ENOSPC), and what apt says when it looked before.
_NO_ROOM = re.compile(r"No space left on device|enough free space in")


class NoSuchPackageError(UserError):
    """None of the host's package sources offers a package."""


def candidate(package: str) -> str | None:
    """The version of a binary package that the system's own lists offer, or None."""
    return _candidate(package, [])


def download_deb(package: str, into: Path) -> Path:
    """Download a binary package in its candidate version into an existing directory and return the file.

    Raises NoSuchPackageError, and HostError when no list or no mirror can be reached.
    """
    if candidate(package) is not None:
        attempt = _apt_get(["download", package], [], into)
        if attempt.returncode == 0:
            return _only(into, f"{package}_*.deb")
        _require_room(attempt, f"download the package {package}")
    # Either the lists are empty, or older than what the mirror still has.
    options = private_lists()
    if _candidate(package, options) is None:
        raise _nowhere(package)
    _checked(_apt_get(["download", package], options, into), f"download the package {package}")
    return _only(into, f"{package}_*.deb")


def source_version(package: str) -> str:
    """Newest version of a source package in the private lists."""
    shown = run(["apt-cache", *private_lists(), "showsrc", "--only-source", package], env=_environment(), check=False)
    versions: list[str] = re.findall(r"^Version: (\S+)$", shown.stdout, re.MULTILINE)
    if not versions:
        raise _nowhere(f"{package} (source)")
    newest: str = versions[0]
    for version in versions[1:]:
        if run(["dpkg", "--compare-versions", version, "gt", newest], check=False).returncode == 0:
            newest = version
    return newest


def download_source(package: str, into: Path) -> str:
    """Download the files of a source package's newest version into a directory; returns that version.

    Raises NoSuchPackageError, HostError.
    """
    version = source_version(package)
    fetched = _apt_get(["source", "--download-only", "--only-source", f"{package}={version}"], private_lists(), into)
    _checked(fetched, f"download the source of {package}")
    return version


def private_lists() -> list[str]:
    """Options that make apt use the private lists, which are fetched first when they are missing or old."""
    root = cache_dir() / "apt"
    options = [
        "-o", f"Dir::Etc::sourcelist={root}/sources.list",
        "-o", "Dir::Etc::sourceparts=-",
        "-o", f"Dir::State::lists={root}/lists",
        "-o", f"Dir::Cache={root}/cache",
    ]  # fmt: skip
    if _DEBIAN_KEYRING.is_file():
        # The sources may name their key by Signed-By, which indextargets does not repeat.
        options += ["-o", f"Dir::Etc::trusted={_DEBIAN_KEYRING}"]
    with locked("apt", "another popcorn's download of package lists"):
        stamp = root / "updated"
        wanted = _sources_list()
        # A stamp from the future is from before somebody set the clock back.
        fresh = stamp.is_file() and 0 <= time.time() - stamp.stat().st_mtime < _FRESH_S and stamp.read_text() == wanted
        if not fresh:
            (root / "lists" / "partial").mkdir(parents=True, exist_ok=True)
            (root / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
            write_atomic(root / "sources.list", wanted)
            with step("fetching Debian's package lists"):
                updated = _apt_get(["update"], options, root)
            # It is content with some of the lists.
            _require_room(updated, "fetch the package lists")
            if not list((root / "lists").glob("*_Sources*")):
                _checked(updated, "fetch the package lists", always=True)
            write_atomic(stamp, wanted)
    return options


def _sources_list() -> str:
    """The host's enabled repositories, one `deb` and one `deb-src` line each."""
    shown = run(
        [
            "apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ],
        env=_environment(),
    )  # fmt: skip
    repositories = sorted({line.strip() for line in shown.stdout.splitlines() if line.strip()})
    if not repositories:
        raise HostError(
            "apt knows no package repository on this host (`apt-get indextargets` lists none)",
            hint="add Debian's repositories to /etc/apt/sources.list, or name a source tree with --source",
        )
    return "".join(f"deb {line}\ndeb-src {line}\n" for line in repositories)


def _candidate(package: str, options: list[str]) -> str | None:
    shown = run(["apt-cache", *options, "policy", package], env=_environment(), check=False)
    found = re.search(r"^\s+Candidate: (\S+)$", shown.stdout, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "(none)" else None


def _apt_get(arguments: list[str], options: list[str], cwd: Path) -> Completed:
    # Root's apt would drop to a user who cannot write into the caller's directory, and warn about it.
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    return run(["apt-get", "-q", *sandbox, *options, *arguments], cwd=cwd, env=_environment(), check=False)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _checked(done: Completed, purpose: str, *, always: bool = False) -> None:
    if done.returncode == 0 and not always:
        return
    _require_room(done, purpose)
    errors = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "W:", "Err:"))]
    said = "; ".join(errors[:3]) or f"apt-get ended with status {done.returncode}"
    raise HostError(
        f"apt could not {purpose}: {said}",
        hint="check the network and the package sources of this host, or name what you have with --source",
    )


def _require_room(done: Completed, purpose: str) -> None:
    if _NO_ROOM.search(done.stderr + done.stdout):
        raise disk_full(cache_dir(), f"apt, asked to {purpose},")


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise HostError(f"apt left {len(found)} files {pattern} in {directory}, expected one")
    return found[0]


def _nowhere(package: str) -> NoSuchPackageError:
    return NoSuchPackageError(
        f"no package source of this host offers {package}",
        hint="Debian 12 (with its security updates) and newer have it; for a kernel, `--source` takes your own tree",
    )
