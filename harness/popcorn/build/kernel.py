# SPDX-License-Identifier: Apache-2.0
"""From a series, a flavour and a base to a kernel in the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from popcorn.build.apply import apply_series
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.base import Base
from popcorn.build.kbuild import Kbuild, toolchain
from popcorn.build.kconfig import configure, fragments, requests_of
from popcorn.build.series import Series, load_series
from popcorn.build.shared import shared_content
from popcorn.build.source import find_base
from popcorn.build.store import get_or_build, load_manifest
from popcorn.build.unpadded import write_unpadded
from popcorn.build.workspace import workspace
from popcorn.dirs import cache_dir
from popcorn.files import sha256_file
from popcorn.progress import step

_RECIPE = 2
"""Raise when the way of building changes what is built."""

_ARTIFACT_BYTES = 512 << 20

UAPI = Path("include/uapi")
HEADERS = (Path("linux/popcorn.h"), Path("linux/popcorn_dev.h"))
"""What the series tells to user space: the shared memory's layout, and /dev/popcorn."""
FACTS = "kernel.json"
"""What an entry of the store says of itself."""


def build_kernel(
    series: str = "6.12",
    flavour: str = "default",
    source: Path | None = None,
    *,
    rebuild: bool = False,
    update: bool = False,
    popcorn: bool = True,
    jobs: int = 0,
) -> KernelArtifact:
    """Return the kernel of a series and flavour, building it when the store has none for these very inputs.

    Args:
        source: a tree, tarball or linux-source .deb instead of what the series names.
        rebuild: build although the store has it (the remedy for a corrupted entry).
        update: look for a newer Debian package first; for kernel.org, take the release the series names.
        popcorn: False for the base without the series, but for the patches that make it build at all.
        jobs: compilers at once; 0 for one a CPU.

    Raises UserError (unknown series or flavour, wrong source, a patch that does not apply, an option not obtained, a
    a corrupted entry), HostError (a tool is missing, no network, a full disk, the kernel does not compile).
    """
    chosen = load_series(series)
    fragments(chosen, flavour, popcorn=popcorn)  # a mistake in the name is told before anything is fetched
    base = find_base(chosen, source, update=update)
    inputs = kernel_inputs(chosen, flavour, base, popcorn=popcorn)

    def build(staging: Path) -> None:
        _build(staging, chosen, flavour, base, popcorn=popcorn, jobs=jobs, log=_log_path(chosen, flavour))

    entry = get_or_build("kernel", inputs, build, rebuild=rebuild, need_bytes=_ARTIFACT_BYTES)
    return _artifact(entry)


def kernel_inputs(series: Series, flavour: str, base: Base, *, popcorn: bool) -> dict[str, Any]:
    """Everything that decides what a kernel is."""
    applied = series if popcorn else series.without_popcorn()
    shared = shared_content(applied)
    return {
        "recipe": _RECIPE,
        "series": series.name,
        "flavour": flavour,
        "popcorn": popcorn,
        "base": {"version": base.version, "tree": base.tree},
        **({"shared": shared} if shared else {}),
        "patches": applied.patch_hashes(),
        "config": [[path.name, sha256_file(path)] for path in fragments(series, flavour, popcorn=popcorn)],
        "toolchain": toolchain(),
    }


def _build(staging: Path, series: Series, flavour: str, base: Base, *, popcorn: bool, jobs: int, log: Path) -> None:
    requests = requests_of(fragments(series, flavour, popcorn=popcorn), popcorn=popcorn)
    head = apply_series(base, series if popcorn else series.without_popcorn()).head
    objects_name = flavour if popcorn else f"{flavour}-off"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    with workspace(series.name, head) as place:
        kbuild = Kbuild(place.objects(objects_name), log, local_version=local_version(flavour, popcorn), jobs=jobs)
        with step(f"configuring the kernel ({flavour})"):
            configure(kbuild, requests)
        with step(f"building the kernel {base.version} ({flavour})") as progress:
            kbuild.make("bzImage", "vmlinux", step=progress)
        release = kbuild.make("-s", "kernelrelease").stdout.strip().splitlines()[-1]
        _collect(staging, kbuild, release, series.name, flavour)
    shutil.copyfile(log, staging / "build.log")


def _collect(staging: Path, kbuild: Kbuild, release: str, series: str, flavour: str) -> None:
    built = kbuild.objects
    shutil.copyfile(built / "vmlinux", staging / "vmlinux.debug")
    write_unpadded(built / "vmlinux", staging / "vmlinux")
    shutil.copyfile(built / "arch/x86/boot/bzImage", staging / "bzImage")
    shutil.copyfile(built / ".config", staging / ".config")
    shutil.copyfile(built / "System.map", staging / "System.map")
    for header in HEADERS:
        if (kbuild.tree / UAPI / header).is_file():
            (staging / "include" / header).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kbuild.tree / UAPI / header, staging / "include" / header)
    facts = {"release": release, "series": series, "flavour": flavour}
    (staging / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def _artifact(entry: Path) -> KernelArtifact:
    facts = json.loads((entry / FACTS).read_text())
    include = entry / "include"
    header = include / HEADERS[0]
    return KernelArtifact(
        dir=entry,
        key=entry.name,
        release=facts["release"],
        series=facts["series"],
        flavour=facts["flavour"],
        vmlinux=entry / "vmlinux",
        vmlinux_debug=entry / "vmlinux.debug",
        bzimage=entry / "bzImage",
        config=entry / ".config",
        system_map=entry / "System.map",
        header=header if header.is_file() else None,
        include=include if include.is_dir() else None,
        log=entry / "build.log",
        manifest=json.loads(load_manifest(entry).to_json()),
    )


def local_version(flavour: str, popcorn: bool) -> str:
    """What follows the base's version in a kernel's release."""
    return ("-popcorn" if popcorn else "-base") + ("" if flavour == "default" else f"-{flavour}")


def _log_path(series: Series, flavour: str) -> Path:
    return cache_dir() / "logs" / f"kernel-{series.name}-{flavour}.log"
