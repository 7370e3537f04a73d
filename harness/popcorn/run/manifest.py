# SPDX-License-Identifier: Apache-2.0
"""What a run was made of: ``manifest.json``, written when it begins and again when it ends."""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from popcorn import __version__
from popcorn.build.artifacts import KernelArtifact
from popcorn.errors import HostError, UserError
from popcorn.files import sha256_file, write_atomic
from popcorn.machine import qemu
from popcorn.plan.model import Plan
from popcorn.process import run

MANIFEST_FILE = "manifest.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Host(_Model):
    """Where it ran. Sizes in bytes; load over the last minute when it began."""

    name: str
    system: str
    cpu: str
    cores: int
    memory_bytes: int
    available_bytes: int
    load: float


class Kernel(_Model):
    """A kernel that partitions booted."""

    release: str
    series: str
    flavour: str
    key: str
    base: str
    config_sha256: str
    bzimage_sha256: str
    vmlinux_sha256: str


class Manifest(_Model):
    """A run's ingredients. Times are Unix time."""

    version: int = 1
    popcorn: str
    commit: str
    """Of the checkout, with ``-dirty`` when files differ from it; empty for an installed Popcorn."""
    typed: tuple[str, ...]
    begun: float
    ended: float | None = None
    host: Host
    qemu: str
    accel: str
    kernel: Kernel
    """The primary's, and that of all partitions that `others` does not name."""
    others: dict[int, Kernel] = {}
    """Other kernels, by the id of their partition."""
    plan: Plan
    guests: int = 1
    """How many machines with this plan were up together."""

    def distinct_kernels(self) -> list[Kernel]:
        """Every kernel that was booted once, the primary's first."""
        return list(dict.fromkeys([self.kernel, *self.others.values()]))

    def save(self, run_dir: Path) -> None:
        """Write it into the run's folder."""
        write_atomic(run_dir / MANIFEST_FILE, self.model_dump_json(indent=1) + "\n")


def describe(
    plan: Plan, kernel: KernelArtifact, accel: str, kernels: Mapping[int, KernelArtifact] | None = None
) -> Manifest:
    """The manifest of a run that begins now.

    Args:
        kernels: what each partition runs, where that is not `kernel`.
    """
    shown = {one.dir: _kernel(one) for one in (kernels or {}).values()}
    return Manifest(
        popcorn=__version__,
        commit=code_commit(),
        typed=typed_words(sys.argv),
        begun=time.time(),
        host=describe_host(),
        qemu=".".join(map(str, qemu.host_version())),
        accel=accel,
        kernel=_kernel(kernel),
        others={id: shown[one.dir] for id, one in (kernels or {}).items() if one.dir != kernel.dir},
        plan=plan,
    )


def read_manifest(run_dir: Path) -> Manifest:
    """The manifest of a run.

    Raises:
        UserError: there is none, or this version cannot read it.
    """
    path = run_dir / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{run_dir} has no {MANIFEST_FILE}",
            hint="a run that was measured has one beside its results, or in a folder for each boot; if it was removed, "
            "only `popcorn results` can read the run",
        ) from None
    except (OSError, ValidationError) as error:
        raise UserError(
            f"cannot read the manifest {path}: {str(error).splitlines()[0]}",
            hint="it is damaged, or of another Popcorn; `popcorn results` reads the measurements without it",
        ) from error


def _kernel(kernel: KernelArtifact) -> Kernel:
    return Kernel(
        release=kernel.release,
        series=kernel.series,
        flavour=kernel.flavour,
        key=kernel.key,
        base=str(kernel.manifest.get("inputs", {}).get("base", {}).get("version", "")),
        config_sha256=sha256_file(kernel.config),
        bzimage_sha256=sha256_file(kernel.bzimage),
        vmlinux_sha256=sha256_file(kernel.vmlinux),
    )


@functools.cache
def code_commit() -> str:
    """The checkout's commit, with ``-dirty`` when files differ from it; empty for an installed Popcorn.

    It is looked up once, for what runs is the code of that time: who commits during a long run does not change it.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        commit = run(["git", "-C", root, "rev-parse", "HEAD"]).stdout.strip()
        dirty = run(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except HostError:
        return ""
    return commit + ("-dirty" if dirty else "")


def describe_host() -> Host:
    """This host, now."""
    memory = psutil.virtual_memory()
    return Host(
        name=platform.node(),
        system=f"{_first_value('/etc/os-release', 'PRETTY_NAME', '=')}, Linux {platform.release()}",
        cpu=_first_value("/proc/cpuinfo", "model name", ":"),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=memory.total,
        available_bytes=memory.available,
        load=round(os.getloadavg()[0], 2),
    )


def _first_value(path: str, name: str, separator: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    found = (line.partition(separator) for line in lines)
    return next((value.strip().strip('"') for key, _, value in found if key.strip() == name), "unknown")


def typed_words(argv: Sequence[str]) -> tuple[str, ...]:
    """What the user typed: `popcorn` and not the file that it led to."""
    return ("popcorn", *argv[1:]) if Path(argv[0]).name == "__main__.py" else tuple(argv)
