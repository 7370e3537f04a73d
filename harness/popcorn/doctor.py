# SPDX-License-Identifier: Apache-2.0
"""The state of the host, as ``popcorn doctor`` tells it: each thing looked at, and what was found."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from popcorn import hostpackages
from popcorn.build.store import entries
from popcorn.config.sizes import GIB, MIB, format_size
from popcorn.dirs import cache_dir, runs_dir, runtime_dir
from popcorn.errors import PopcornError
from popcorn.files import tree_size_bytes

OK, WARN, BAD = "ok", "warn", "bad"

# The paper's machine with 48 kernels was seen with about 3 GiB; a build takes about 1 GiB.
_ENOUGH_MEMORY = 4 * GIB
# Sources, a build directory and the artifacts of both.
_ENOUGH_DISK = 6 * GIB
# A machine's initrd, with the kernel that its primary starts.
_ENOUGH_RUNTIME = 128 * MIB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ok, warn (works, but could be better) or bad (something will fail)."""

    name: str
    state: str
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, and how much the caches and the runs take (path, bytes)."""

    findings: tuple[Finding, ...]
    caches: tuple[tuple[Path, int], ...]
    runs: tuple[Path, int]

    @property
    def healthy(self) -> bool:
        """Whether nothing is bad."""
        return all(finding.state != BAD for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "findings": [asdict(finding) for finding in self.findings],
            "caches": [{"path": str(path), "bytes": size} for path, size in self.caches],
            "runs": {"path": str(self.runs[0]), "bytes": self.runs[1]},
        }


def examine() -> Report:
    """Look at everything. KVM is tried with a built kernel if there is one."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (_system, _python, _packages, _qemu, _kvm, _memory, _disk)
    findings: list[Finding] = []
    for look in looks:
        try:
            findings.extend(look())
        except PopcornError as error:
            findings.append(Finding(look.__name__.strip("_"), BAD, str(error), error.hint))
    return Report(tuple(findings), tuple(_caches()), (runs_dir(), tree_size_bytes(runs_dir())))


def _system() -> Iterator[Finding]:
    cpus = os.cpu_count() or 1
    detail = f"{_distribution()}, Linux {platform.release()}, {platform.machine()}, {cpus} CPUs"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        yield Finding("host", BAD, detail, "Popcorn's kernels are for x86-64, and so are its builds")
    else:
        yield Finding("host", OK, detail)


def _python() -> Iterator[Finding]:
    yield Finding("python", OK, f"{platform.python_version()} in {sys.prefix}")


def _packages() -> Iterator[Finding]:
    absent = [package for package in hostpackages.PACKAGES if not package.is_there]
    if not absent:
        yield Finding("packages", OK, "everything is installed")
    required = [package for package in absent if package.required]
    if required:
        names = ", ".join(package.name for package in required)
        hint = f"the verbs that need them install them; by hand, as root: {hostpackages.install_line(required)}"
        yield Finding("packages", BAD, f"missing: {names}", hint)
    wanted = [package for package in absent if not package.required]
    if wanted:
        names = ", ".join(f"{package.name} ({package.purpose})" for package in wanted)
        yield Finding("more packages", WARN, f"would be good to have: {names}", hostpackages.install_line(wanted))


def _qemu() -> Iterator[Finding]:
    from popcorn.machine import qemu

    if shutil.which(qemu.PROGRAM) is None:
        yield Finding("qemu", BAD, f"{qemu.PROGRAM} is not on the PATH", "install the package qemu-system-x86")
        return
    version = ".".join(map(str, qemu.host_version()))
    yield Finding("qemu", OK, f"{version} ({shutil.which(qemu.PROGRAM)})")


def _kvm() -> Iterator[Finding]:
    from popcorn.machine import kvm

    kernel = _newest_kernel()
    if not kvm.DEVICE.exists():
        yield Finding("kvm", WARN, f"{kvm.DEVICE} is not there", "machines run under emulation, which is slower")
    elif kernel is None or shutil.which("qemu-system-x86_64") is None:
        yield Finding(
            "kvm",
            WARN,
            f"{kvm.DEVICE} is there, which proves nothing: not yet proven by booting a kernel on it",
            "run `popcorn build`, then `popcorn doctor` again",
        )
    else:
        verdict = kvm.probe(kernel)
        state, hint = (OK, "") if verdict.usable else (WARN, "machines run under emulation, which is slower")
        yield Finding("kvm", state, f"{'usable' if verdict.usable else 'not usable'}: {verdict.reason}", hint)


def _newest_kernel() -> Path | None:
    images = [entry / "bzImage" for entry in entries("kernel")]
    return max(filter(Path.is_file, images), key=lambda image: image.stat().st_mtime, default=None)


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    detail = f"{format_size(memory.available)} of {format_size(memory.total)} available"
    if memory.available < _ENOUGH_MEMORY:
        hint = f"48 kernels want about {format_size(_ENOUGH_MEMORY)}; use --machine small, or fewer kernels"
        yield Finding("memory", WARN, detail, hint)
    else:
        yield Finding("memory", OK, detail)


def _disk() -> Iterator[Finding]:
    for name, place, variable in (("cache", cache_dir(), "POPCORN_CACHE"), ("runs", runs_dir(), "POPCORN_RUNS")):
        free = shutil.disk_usage(place).free
        detail = f"{format_size(free)} free at {place}"
        if free < _ENOUGH_DISK:
            hint = f"a build wants {format_size(_ENOUGH_DISK)}; set {variable} to a place on a larger disk"
            yield Finding(f"disk for {name}", WARN, detail, hint)
        else:
            yield Finding(f"disk for {name}", OK, detail)
    free = shutil.disk_usage(runtime_dir()).free
    detail = f"{format_size(free)} free at {runtime_dir()} for sockets and the initrds of machines that are up"
    if free < _ENOUGH_RUNTIME:
        hint = f"a machine wants {format_size(_ENOUGH_RUNTIME)}; set XDG_RUNTIME_DIR to a private directory elsewhere"
        yield Finding("disk for sockets", WARN, detail, hint)
    else:
        yield Finding("disk for sockets", OK, detail)


def _caches() -> Iterator[tuple[Path, int]]:
    for entry in sorted(cache_dir().iterdir()):
        if entry.is_dir():
            yield entry, tree_size_bytes(entry)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:
        return "unknown distribution"
