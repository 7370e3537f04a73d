# SPDX-License-Identifier: Apache-2.0
"""The guest's `kexec`: Debian's kexec-tools with our patches, linked statically.

The recipe is the one in tools/kexec-popcorn/README.md. Any version that Debian has is taken; the patches tolerate
offsets and a little fuzz.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from popcorn.build.artifacts import KexecArtifact
from popcorn.build.debsource import Source, apply_patch, build_step, fetch_source, unpack_source
from popcorn.build.kbuild import environment
from popcorn.build.series import patch_names
from popcorn.build.store import get_or_build, load_manifest
from popcorn.dirs import cache_dir, source_root
from popcorn.files import sha256_file
from popcorn.process import Completed, require_program, run
from popcorn.progress import step

_RECIPE = 1
_NEED_BYTES = 64 << 20
_CONFIGURE = ("--without-zlib", "--without-lzma", "--without-zstd", "--without-xen", "LDFLAGS=-static")


def build_kexec(*, rebuild: bool = False, update: bool = False) -> KexecArtifact:
    """Return the static kexec, building it when the store has none for these very inputs.

    Args:
        rebuild: build although the store has it.
        update: look for a newer Debian source first.

    Raises UserError (a patch that does not apply, a corrupted entry), HostError (no network, a tool
    missing, a compile error).
    """
    source = fetch_source("kexec-tools", update=update)
    folder = source_root() / "tools" / "kexec-popcorn"
    patches = [folder / name for name in patch_names(folder / "series")]
    inputs: dict[str, Any] = {
        "recipe": _RECIPE,
        "source": {"version": source.version, "sha256": source.sha256},
        "patches": [[patch.name, sha256_file(patch)] for patch in patches],
        "configure": list(_CONFIGURE),
        "compiler": _first_line(run(["gcc", "--version"], env=environment())),
    }

    def build(staging: Path) -> None:
        with step(f"building kexec-tools {source.version}"):
            _build(staging, source, patches)

    entry = get_or_build("kexec", inputs, build, rebuild=rebuild, need_bytes=_NEED_BYTES)
    return KexecArtifact(
        dir=entry,
        key=entry.name,
        version=source.version,
        binary=entry / "kexec",
        log=entry / "build.log",
        manifest=json.loads(load_manifest(entry).to_json()),
    )


def _build(staging: Path, source: Source, patches: list[Path]) -> None:
    for program in ("gcc", "make", "patch", "tar", "strip"):
        require_program(program)
    log = cache_dir() / "logs" / "kexec.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=staging, prefix=".build-") as scratch:
        tree = Path(scratch)
        unpack_source(source, tree)
        for patch in patches:
            hint = f"the patches were made on the versions that {patch.parent / 'README.md'} names"
            apply_patch(tree, patch, hint=hint)
        flags = f"CFLAGS=-O2 -g0 -Wall -ffile-prefix-map={tree}=."
        variables = environment() | {"SOURCE_DATE_EPOCH": "0"}
        build_step("kexec-tools", [str(tree / "configure"), *_CONFIGURE, flags], tree, variables, log)
        make = ["make", f"-j{len(os.sched_getaffinity(0))}", "build/sbin/kexec"]
        build_step("kexec-tools", make, tree, variables, log)
        run(["strip", "--strip-all", "-o", staging / "kexec", tree / "build/sbin/kexec"])
    shutil.copyfile(log, staging / "build.log")


def _first_line(done: Completed) -> str:
    return done.stdout.splitlines()[0].strip()
