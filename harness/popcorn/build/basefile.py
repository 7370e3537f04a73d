# SPDX-License-Identifier: Apache-2.0
"""What a series' base.toml says: the kernel it is for, where that comes from, what it takes from another series."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popcorn.errors import UserError

_KEYS = ("version", "tested", "debian", "builds_from", "checkpatch_ignored", "kernel_org", "shared")


@dataclass(frozen=True)
class ReleaseFile:
    """A file at kernel.org and what must be in it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class KernelOrg:
    """A release at kernel.org, e.g. version "3.2.14"."""

    version: str
    files: tuple[ReleaseFile, ...]
    """A tarball, and after it the patches that make it the release."""


@dataclass(frozen=True)
class Shared:
    """Files that another series adds and this one takes as they are."""

    series: str
    paths: tuple[str, ...]
    """Files or folders, from the tree's root."""


@dataclass(frozen=True)
class IgnoredFinding:
    """What checkpatch says wrongly about a file."""

    finding: str
    """Its type, e.g. "MACRO_ARG_REUSE"."""
    path: str
    """The file, from the tree's root."""
    why: str


@dataclass(frozen=True)
class BaseFile:
    """One base.toml. Either Debian or kernel.org has the base."""

    version: str
    tested: str
    debian: str | None
    kernel_org: KernelOrg | None
    builds_from: str | None
    shared: Shared | None
    checkpatch_ignored: tuple[IgnoredFinding, ...]


def load_base_file(path: Path) -> BaseFile:
    """Read a base.toml. Raises UserError, which names the file and the key that is wrong."""
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}", hint=f"its keys are {', '.join(_KEYS)}") from error
    _known(path, table, _KEYS)
    version = _text(path, table, "version")
    debian = _text(path, table, "debian") if "debian" in table else None
    kernel_org = _kernel_org(path, _table(path, table, "kernel_org"), version) if "kernel_org" in table else None
    if (debian is None) == (kernel_org is None):
        raise UserError(
            f'{path}: expected either debian = "…" or [kernel_org], found {"both" if debian else "neither"}',
            hint="one of them says where the base comes from",
        )
    return BaseFile(
        version=version,
        tested=_text(path, table, "tested"),
        debian=debian,
        kernel_org=kernel_org,
        builds_from=_text(path, table, "builds_from") if "builds_from" in table else None,
        shared=_shared(path, _table(path, table, "shared")) if "shared" in table else None,
        checkpatch_ignored=_checkpatch_ignored(path, table.get("checkpatch_ignored", [])),
    )


def _kernel_org(path: Path, table: Mapping[str, Any], series_version: str) -> KernelOrg:
    _known(path, table, ("version", "files"), "kernel_org.")
    version = _text(path, table, "version", "kernel_org.")
    if not version.startswith(series_version + "."):
        raise UserError(f"{path}: kernel_org.version is {version}; expected one of {series_version}.y")
    listed = table.get("files")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
        raise UserError(f'{path}: expected kernel_org.files = [{{ name = "…", sha256 = "…" }}, …], found {listed!r}')
    return KernelOrg(version, tuple(_release_file(path, one, first=one is listed[0]) for one in listed))


def _release_file(path: Path, table: Mapping[str, Any], *, first: bool) -> ReleaseFile:
    where = "kernel_org.files."
    _known(path, table, ("name", "sha256"), where)
    name, sha256 = _text(path, table, "name", where), _text(path, table, "sha256", where)
    kind, pattern = ("tarball", r"linux-[\w.-]+\.tar") if first else ("patch", r"patch-[\w.-]+")
    if not re.fullmatch(pattern + r"\.(xz|gz|bz2)", name):
        raise UserError(f"{path}: {where}name: expected a {kind} (.xz, .gz or .bz2), found {name!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"{path}: {where}sha256: expected 64 digits of 0-9 and a-f, found {sha256!r}")
    return ReleaseFile(name, sha256)


def _shared(path: Path, table: Mapping[str, Any]) -> Shared:
    _known(path, table, ("series", "paths"), "shared.")
    listed = table.get("paths")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise UserError(f'{path}: expected shared.paths = ["…", …], found {listed!r}')
    for one in listed:
        if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", one) or ".." in one.split("/"):
            raise UserError(f"{path}: shared.paths: {one!r} is no path of a file or folder from the tree's root")
        for other in listed:
            if other is not one and (one == other or one.startswith(other + "/")):
                raise UserError(f"{path}: shared.paths: {one} is in {other}, which is listed too")
    return Shared(_text(path, table, "series", "shared."), tuple(listed))


def _checkpatch_ignored(path: Path, listed: object) -> tuple[IgnoredFinding, ...]:
    where = "checkpatch_ignored."
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise UserError(
            f'{path}: expected checkpatch_ignored = [{{ finding = "…", path = "…", why = "…" }}, …], found {listed!r}'
        )
    ignored = []
    for one in listed:
        _known(path, one, ("finding", "path", "why"), where)
        finding = _text(path, one, "finding", where)
        if not re.fullmatch(r"[A-Z_]+", finding):
            raise UserError(
                f"{path}: {where}finding: {finding!r} is no type of finding",
                hint="as `popcorn kernel verify` shows it, e.g. MACRO_ARG_REUSE",
            )
        ignored.append(IgnoredFinding(finding, _text(path, one, "path", where), _text(path, one, "why", where)))
    return tuple(ignored)


def _known(path: Path, table: Mapping[str, Any], keys: tuple[str, ...], where: str = "") -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{path}: there is no key {where}{key}", hint=f"keys: {', '.join(keys)}")


def _text(path: Path, table: Mapping[str, Any], key: str, where: str = "") -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f'{path}: expected {where}{key} = "…", found {value!r}')
    return value


def _table(path: Path, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table[key]
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a table [{key}], found {value!r}")
    return value
