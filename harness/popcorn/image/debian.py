# SPDX-License-Identifier: Apache-2.0
"""Files out of Debian's binary packages, with the shared libraries that they need.

What was fetched once is kept, so that an image does not change (and no network is needed) until somebody asks for
a rebuild; the store's manifest records the versions.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from popcorn.build import apt
from popcorn.build.store import get_or_build
from popcorn.errors import HostError
from popcorn.files import sha256_file
from popcorn.process import run
from popcorn.progress import step

RULES = 2
"""Raised when the same packages would be turned into other files."""
LIBRARY_FOLDER = "/lib/x86_64-linux-gnu"
PACKAGES = "packages.json"

Wanted = Mapping[str, Mapping[str, str]]
"""Package name to {path in the package: path in the result}; a path may be a directory."""


def debian_files(wanted: Wanted, *, rebuild: bool = False) -> Path:
    """A directory (in the store) that holds the wanted files under `root/`, and their libraries and loader.

    Raises NoSuchPackageError, HostError.
    """
    inputs = {
        "rules": RULES,
        "packages": {package: dict(paths) for package, paths in wanted.items()},
        "distribution": platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown"),
    }
    return get_or_build("debian", inputs, lambda into: _collect(wanted, into), rebuild=rebuild)


def debian_overlay(wanted: Wanted) -> dict[str, tuple[bytes, int]]:
    """The same files as an overlay takes them: path to content and permissions. Errors as for `debian_files`."""
    root = debian_files(wanted) / "root"
    return {
        f"/{path.relative_to(root).as_posix()}": (path.read_bytes(), _permissions(path))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _permissions(path: Path) -> int:
    return 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644


def needed_libraries(program: Path) -> tuple[str | None, list[str]]:
    """The loader that an ELF file asks for, or None, and its DT_NEEDED names; nothing for what is no ELF file."""
    with program.open("rb") as stream:
        try:
            elf = ELFFile(stream)
        except ELFError:
            return None, []
        loader = None
        names: list[str] = []
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                loader = segment.get_interp_name()
        for section in elf.iter_sections():
            if isinstance(section, DynamicSection):
                names += [str(getattr(tag, "needed")) for tag in section.iter_tags("DT_NEEDED")]  # noqa: B009
        return loader, names


def _collect(wanted: Wanted, into: Path) -> None:
    root = into / "root"
    with tempfile.TemporaryDirectory(dir=into.parent, prefix="debs-") as scratch, step("fetching Debian packages"):
        packages = _Packages(Path(scratch))
        programs: list[tuple[Path, str]] = []
        for package, paths in wanted.items():
            packages.fetch(package)
            for source, target in paths.items():
                found = packages.file(package, source)
                _copy(found, root / target.lstrip("/"))
                if found.is_file():
                    programs.append((found, package))
        _add_libraries(packages, programs, root)
        (into / PACKAGES).write_text(json.dumps(packages.versions(), indent=1, sort_keys=True) + "\n")


def _add_libraries(packages: _Packages, programs: list[tuple[Path, str]], root: Path) -> None:
    """Add the closure of DT_NEEDED over the programs and the libraries themselves."""
    todo = list(programs)
    done: set[str] = set()
    # Libraries name the loader too, without a path: it goes where programs ask for it, whoever is looked at first.
    loaders = {loader.rpartition("/")[2]: loader for program, _ in programs if (loader := needed_libraries(program)[0])}
    while todo:
        program, package = todo.pop()
        loader, names = needed_libraries(program)
        for name in [*names, *([loader] if loader else [])]:
            base = name.rpartition("/")[2]
            if base in done:
                continue
            done.add(base)
            library, owner = packages.library(base, package)
            _copy(library, root / loaders.get(base, f"{LIBRARY_FOLDER}/{base}").lstrip("/"))
            todo.append((library, owner))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


class _Packages:
    """Packages downloaded and unpacked side by side in a scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._debs: dict[str, Path] = {}

    def fetch(self, package: str) -> None:
        """Download and unpack a package unless it is there."""
        if package in self._debs:
            return
        folder = self._scratch / package
        folder.mkdir()
        deb = apt.download_deb(package, folder)
        run(["dpkg-deb", "-x", deb, folder / "tree"])
        self._debs[package] = deb

    def file(self, package: str, path: str) -> Path:
        """A file or directory of a package; Debian 13 moved what was in /bin, /sbin and /lib below /usr."""
        tree = self._scratch / package / "tree"
        for candidate in (path, f"/usr{path}", path.removeprefix("/usr")):
            found = tree / candidate.lstrip("/")
            if found.exists():
                return found.resolve()
        raise HostError(f"Debian's package {package} ({self._debs[package].name}) holds no {path}")

    def library(self, name: str, needed_by: str) -> tuple[Path, str]:
        """A shared library and its package, looked for in what is unpacked, then in what `needed_by` depends on."""
        for package in self._owners(needed_by):
            tree = self._scratch / package / "tree"
            for found in sorted(tree.glob(f"**/lib*/**/{name}")):
                if found.exists():
                    return found.resolve(), package
        raise HostError(f"no Debian package that {needed_by} depends on holds the library {name}")

    def _owners(self, needed_by: str) -> Iterator[str]:
        yield from list(self._debs)
        field = run(["dpkg-deb", "-f", self._debs[needed_by], "Depends"]).stdout
        names = [found.group(1) for found in re.finditer(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]+)", field)]
        # What is no library by its name is downloaded only when all libraries failed.
        for name in sorted(names, key=lambda name: not name.startswith("lib")):
            if name not in self._debs:
                self.fetch(name)
                yield name

    def versions(self) -> dict[str, dict[str, str]]:
        """What was taken, for the record."""
        return {
            package: {
                "version": run(["dpkg-deb", "-f", deb, "Version"]).stdout.strip(),
                "sha256": sha256_file(deb),
            }
            for package, deb in self._debs.items()
        }
