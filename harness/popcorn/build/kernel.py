# SPDX-License-Identifier: Apache-2.0
"""From a series, a flavour and a base to a kernel in the store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from popcorn.build.apply import apply_series
from popcorn.build.artifacts import KernelArtifact
from popcorn.build.base import Base
from popcorn.build.git import linux_repository, output
from popcorn.build.kbuild import Kbuild, toolchain
from popcorn.build.kconfig import Request, configure, fragments, known_to, requests_of
from popcorn.build.series import Series, load_series
from popcorn.build.shared import shared_content
from popcorn.build.source import find_base
from popcorn.build.store import get_or_build, load_manifest
from popcorn.build.unpadded import write_unpadded
from popcorn.build.workspace import workspace
from popcorn.dirs import cache_dir
from popcorn.errors import UserError
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
KERNEL_VARIABLE = "POPCORN_KERNEL"
"""Names an entry of the store that is taken wherever a kernel of its series and flavour is wanted."""


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

    A kernel that the environment names with `KERNEL_VARIABLE` is taken in place of the one of its series and flavour.

    Raises UserError (unknown series or flavour, wrong source, a patch that does not apply, an option not obtained, a
    a corrupted entry), HostError (a tool is missing, no network, a full disk, the kernel does not compile).
    """
    if (named := named_kernel(series, flavour)) is not None and popcorn:
        return named
    chosen = load_series(series)
    fragments(chosen, flavour, popcorn=popcorn)  # a mistake in the name is told before anything is fetched
    base = find_base(chosen, source, update=update)
    inputs = kernel_inputs(chosen, flavour, base, popcorn=popcorn)

    def build(staging: Path) -> None:
        _build(staging, chosen, flavour, base, popcorn=popcorn, jobs=jobs, log=_log_path(chosen, flavour))

    entry = get_or_build("kernel", inputs, build, rebuild=rebuild, need_bytes=_ARTIFACT_BYTES)
    return artifact(entry)


def named_kernel(series: str, flavour: str) -> KernelArtifact | None:
    """The kernel that the environment names, if it is of this series and flavour. Raises UserError for none."""
    named = os.environ.get(KERNEL_VARIABLE, "")
    if not named:
        return None
    entry = Path(named)
    if not (entry / FACTS).is_file():
        raise UserError(
            f"${KERNEL_VARIABLE} names {entry}, which holds no kernel: there is no {FACTS}",
            hint="name a folder below store/kernel in the cache, or unset the variable",
        )
    kernel = artifact(entry)
    return kernel if (kernel.series, kernel.flavour) == (series, flavour) else None


def build_commit(
    series: str,
    flavour: str,
    commit: str,
    requests: Sequence[Request],
    *,
    place: str,
    repository: Path | None = None,
    optional: Collection[str] = (),
    jobs: int = 0,
) -> KernelArtifact:
    """The kernel of any commit, as the store has it or built in a work tree that is kept for the next one.

    Args:
        series: what the kernel goes by; so does the flavour.
        requests: its configuration. Those for symbols of Popcorn that the commit does not have are left out.
        place: name of the work tree.
        repository: the bare repository that has the commit, if not the cache's.
        optional: symbols that it is no error not to obtain.

    Raises as `build_kernel`.
    """
    tree = output("rev-parse", f"{commit}^{{tree}}", cwd=repository or linux_repository())
    inputs = {
        "recipe": _RECIPE,
        "series": series,
        "flavour": flavour,
        "tree": tree,
        "requests": [[one.symbol, one.value] for one in requests],
        "optional": sorted(optional),
        "toolchain": toolchain(),
    }

    def build(staging: Path) -> None:
        log = cache_dir() / "logs" / f"kernel-{place}-{flavour}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        with workspace(place, commit, repository) as held:
            kbuild = Kbuild(held.objects(flavour), log, local_version=local_version(flavour, True), jobs=jobs)
            with step(f"configuring the kernel ({flavour})"):
                configure(kbuild, known_to(held.tree, requests), optional=optional)
            _make(staging, kbuild, series, flavour, commit[:12])
        shutil.copyfile(log, staging / "build.log")

    return artifact(get_or_build("kernel", inputs, build, need_bytes=_ARTIFACT_BYTES))


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
        _make(staging, kbuild, series.name, flavour, base.version)
    shutil.copyfile(log, staging / "build.log")


def _make(staging: Path, kbuild: Kbuild, series: str, flavour: str, what: str) -> None:
    with step(f"building the kernel {what} ({flavour})") as progress:
        kbuild.make("bzImage", "vmlinux", step=progress)
    release = kbuild.make("-s", "kernelrelease").stdout.strip().splitlines()[-1]
    _collect(staging, kbuild, release, series, flavour)


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


def artifact(entry: Path) -> KernelArtifact:
    """The kernel in an entry of the store."""
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
