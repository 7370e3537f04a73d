# SPDX-License-Identifier: Apache-2.0
"""The guest's `kexec`: Debian's kexec-tools with our patches, linked statically.

The recipe is the one in tools/kexec-popcorn/README.md. Any version that Debian has is taken; the patches tolerate
offsets and a little fuzz.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popcorn.build import apt
from popcorn.build.artifacts import KexecArtifact
from popcorn.build.buildlog import first_error
from popcorn.build.kbuild import environment
from popcorn.build.series import patch_names
from popcorn.build.store import get_or_build, load_manifest, locked
from popcorn.dirs import cache_dir, source_root
from popcorn.errors import HostError, UserError
from popcorn.files import sha256_file, write_atomic
from popcorn.process import Completed, require_program, run
from popcorn.progress import note, step

_RECIPE = 1
_NEED_BYTES = 64 << 20
_CONFIGURE = ("--without-zlib", "--without-lzma", "--without-zstd", "--without-xen", "LDFLAGS=-static")


@dataclass(frozen=True)
class Upstream:
    """The upstream tarball out of Debian's source package."""

    version: str
    tarball: str
    """Its name beside the record, so that a cache can be moved."""
    sha256: str


def build_kexec(*, rebuild: bool = False, update: bool = False) -> KexecArtifact:
    """Return the static kexec, building it when the store has none for these very inputs.

    Args:
        rebuild: build although the store has it.
        update: look for a newer Debian source first.

    Raises UserError (a patch that does not apply, a full disk, a corrupted entry), HostError (no network, a tool
    missing, a compile error).
    """
    upstream = _upstream(update=update)
    folder = source_root() / "tools" / "kexec-popcorn"
    patches = [folder / name for name in patch_names(folder / "series")]
    inputs: dict[str, Any] = {
        "recipe": _RECIPE,
        "source": {"version": upstream.version, "sha256": upstream.sha256},
        "patches": [[patch.name, sha256_file(patch)] for patch in patches],
        "configure": list(_CONFIGURE),
        "compiler": _first_line(run(["gcc", "--version"], env=environment())),
    }

    def build(staging: Path) -> None:
        with step(f"building kexec-tools {upstream.version}"):
            _build(staging, _folder() / upstream.tarball, patches)

    entry = get_or_build("kexec", inputs, build, rebuild=rebuild, need_bytes=_NEED_BYTES)
    return KexecArtifact(
        dir=entry,
        key=entry.name,
        version=upstream.version,
        binary=entry / "kexec",
        log=entry / "build.log",
        manifest=json.loads(load_manifest(entry).to_json()),
    )


def _folder() -> Path:
    return cache_dir() / "source" / "kexec-tools"


def _upstream(*, update: bool) -> Upstream:
    folder = _folder()
    record = folder / "upstream.json"
    with locked("kexec-source", "another popcorn's download of kexec-tools"):
        try:
            known = Upstream(**json.loads(record.read_text()))
        except (OSError, ValueError, TypeError):
            known = None
        if known is not None and not (_folder() / known.tarball).is_file():
            known = None
        if known is not None and (not update or apt.source_version("kexec-tools") == known.version):
            return known
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with step("downloading the source of Debian's kexec-tools"):
            version = apt.download_source("kexec-tools", folder)
        tarballs = [p for p in folder.glob("kexec-tools_*.orig.tar.*") if p.suffix != ".asc"]
        if len(tarballs) != 1:
            raise HostError(f"expected one upstream tarball of kexec-tools in {folder}, found {len(tarballs)}")
        known = Upstream(version, tarballs[0].name, sha256_file(tarballs[0]))
        write_atomic(record, json.dumps(asdict(known), indent=1) + "\n")
        return known


def _build(staging: Path, tarball: Path, patches: list[Path]) -> None:
    for program in ("gcc", "make", "patch", "tar", "strip"):
        require_program(program)
    log = cache_dir() / "logs" / "kexec.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=staging, prefix=".build-") as scratch:
        tree = Path(scratch)
        run(["tar", "--strip-components=1", "-xf", tarball], cwd=tree)
        for patch in patches:
            _apply(tree, patch)
        flags = f"CFLAGS=-O2 -g0 -Wall -ffile-prefix-map={tree}=."
        variables = environment() | {"SOURCE_DATE_EPOCH": "0"}
        _logged([str(tree / "configure"), *_CONFIGURE, flags], tree, variables, log)
        _logged(["make", f"-j{len(os.sched_getaffinity(0))}", "build/sbin/kexec"], tree, variables, log)
        run(["strip", "--strip-all", "-o", staging / "kexec", tree / "build/sbin/kexec"])
    shutil.copyfile(log, staging / "build.log")


def _apply(tree: Path, patch: Path) -> None:
    done = run(["patch", "-p1", "--forward", "--batch", "-i", patch], cwd=tree, check=False)
    if done.returncode != 0:
        raise UserError(
            f"the patch {patch.name} does not apply to this kexec-tools: {first_reject(done.stdout)}",
            hint=f"the patches were made on the versions that {patch.parent / 'README.md'} names",
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


def _logged(command: list[str], tree: Path, variables: dict[str, str], log: Path) -> None:
    done = run(command, cwd=tree, env=variables, log=log, check=False)
    if done.returncode != 0:
        error = first_error(done.stdout)
        raise HostError(
            f"kexec-tools does not build: {error or f'{command[0]} ended with status {done.returncode}'}",
            hint=f"the whole log is {log}",
        )


def _first_line(done: Completed) -> str:
    return done.stdout.splitlines()[0].strip()
