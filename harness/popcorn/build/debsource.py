# SPDX-License-Identifier: Apache-2.0
"""Programs built from Debian's source packages: fetching the source once, patching it, and running its build."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from popcorn.build import apt
from popcorn.build.buildlog import first_error
from popcorn.build.store import locked
from popcorn.dirs import cache_dir
from popcorn.errors import HostError, SeriesError
from popcorn.files import sha256_file, write_atomic
from popcorn.process import run
from popcorn.progress import note, step


@dataclass(frozen=True)
class Source:
    """A Debian source package: upstream's tarball and Debian's own.

    Files go by their names in the package's folder, so that a cache can be moved.
    """

    package: str
    version: str
    tarball: str
    sha256: str
    debian: str
    """The tarball with Debian's changes."""
    debian_sha256: str

    def path(self, name: str) -> Path:
        """Where the file of this name is."""
        return _folder(self.package) / name


def fetch_source(package: str, *, update: bool = False) -> Source:
    """The newest version of a source package, downloaded on the first call and kept.

    Args:
        update: look for a newer one first.

    Raises NoSuchPackageError, HostError (no network).
    """
    folder = _folder(package)
    record = folder / "source.json"
    with locked(f"{package}-source", f"another popcorn's download of {package}"):
        try:
            known = Source(**json.loads(record.read_text()))
        except (OSError, ValueError, TypeError):
            known = None
        if known is not None and not all(known.path(name).is_file() for name in (known.tarball, known.debian)):
            known = None
        if known is not None and (not update or apt.source_version(package) == known.version):
            return known
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with step(f"downloading the source of Debian's {package}"):
            version = apt.download_source(package, folder)
        upstream, debian = _tarball(folder, f"{package}_*.orig.tar.*"), _tarball(folder, f"{package}_*.debian.tar.*")
        known = Source(package, version, upstream.name, sha256_file(upstream), debian.name, sha256_file(debian))
        write_atomic(record, json.dumps(asdict(known), indent=1) + "\n")
        return known


def unpack_source(source: Source, tree: Path, *, debian_patches: bool = False) -> None:
    """Unpack a source package into an empty directory.

    Args:
        debian_patches: whether Debian's patches are applied (their names are in debian/patches/series).

    Raises HostError, SeriesError.
    """
    run(["tar", "--strip-components=1", "-xf", source.path(source.tarball)], cwd=tree)
    if not debian_patches:
        return
    run(["tar", "-xf", source.path(source.debian)], cwd=tree)
    series = tree / "debian" / "patches" / "series"
    lines = series.read_text().splitlines() if series.is_file() else []
    for line in lines:
        name = line.partition("#")[0].strip()
        if name:
            apply_patch(tree, series.parent / name, hint="that is an error in Debian's source package")


def apply_patch(tree: Path, patch: Path, *, hint: str) -> None:
    """Apply one patch. Raises SeriesError with file and hunk, and the given hint."""
    done = run(["patch", "-p1", "--forward", "--batch", "-i", patch], cwd=tree, check=False)
    if done.returncode != 0:
        raise SeriesError(
            f"the patch {patch.name} does not apply to this source: {first_reject(done.stdout)}", hint=hint
        )
    if "with fuzz" in done.stdout:
        note(f"{patch.name} applied with fuzz; it wants to be renewed")


def first_reject(said: str) -> str:
    """File and hunk of the first failure that patch(1) tells."""
    file = ""
    for line in said.splitlines():
        if found := re.match(r"(?:patching|checking) file (\S+)", line):
            file = found.group(1)
        if found := re.match(r"Hunk #(\d+) FAILED at (\d+)", line):
            return f"{file}, hunk {found.group(1)} at line {found.group(2)}"
        if "can't find file to patch" in line or "already exists" in line or "malformed patch" in line:
            return f"{file}: {line}" if file else line
    return said.strip().splitlines()[0] if said.strip() else "patch gave no reason"


def build_step(what: str, command: Sequence[str], tree: Path, variables: dict[str, str], log: Path) -> None:
    """Run one command of a program's build. Raises HostError with the first error in its output."""
    done = run(command, cwd=tree, env=variables, log=log, check=False)
    if done.returncode != 0:
        error = first_error(done.stdout)
        raise HostError(
            f"{what} does not build: {error or f'{command[0]} ended with status {done.returncode}'}",
            hint=f"the whole log is {log}",
        )


def _folder(package: str) -> Path:
    return cache_dir() / "source" / "debian" / package


def _tarball(folder: Path, pattern: str) -> Path:
    found = [path for path in folder.glob(pattern) if path.suffix != ".asc"]
    if len(found) != 1:
        raise HostError(f"expected one tarball {pattern} in {folder}, found {len(found)}")
    return found[0]
