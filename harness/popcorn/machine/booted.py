# SPDX-License-Identifier: Apache-2.0
"""Which kernels a machine was booted with, written into its run's folder: symbols must be those of that very build."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.build.kernel import FACTS
from popcorn.files import write_atomic

BOOTED_FILE = "kernels.json"
_REPLACED_FILE = "kernels-replaced.json"
_USUAL = "usual"


@dataclass(frozen=True)
class BootedKernel:
    """The build that a kernel runs."""

    series: str
    flavour: str
    release: str
    dir: str
    """Its entry in the store."""

    @property
    def key(self) -> str:
        """Its name in the store: equal keys mean equal kernels."""
        return Path(self.dir).name

    @property
    def vmlinux(self) -> Path:
        """The image with its symbols, as it was linked."""
        return Path(self.dir) / "vmlinux.debug"

    @property
    def system_map(self) -> Path:
        return Path(self.dir) / "System.map"


def write_booted(run_dir: Path, kernels: Mapping[int, KernelArtifact], usual: KernelArtifact | None = None) -> None:
    """Note what each kernel runs, as far as it was built here.

    Args:
        usual: what kernels run that are not planned yet.
    """
    noted = {str(id): _noted(kernel) for id, kernel in sorted(kernels.items())}
    if usual is not None:
        noted[_USUAL] = _noted(usual)
    write_atomic(run_dir / BOOTED_FILE, json.dumps(noted, indent=1) + "\n")


def _noted(kernel: KernelArtifact) -> dict[str, str]:
    return asdict(BootedKernel(kernel.series, kernel.flavour, kernel.release, str(kernel.dir)))


def note_planned(run_dir: Path, ids: Iterable[int]) -> None:
    """Note what kernels will run that were not planned before."""
    noted = _read(run_dir / BOOTED_FILE)
    if usual := noted.get(_USUAL):
        new = {str(id): usual for id in ids if str(id) not in noted}
        write_atomic(run_dir / BOOTED_FILE, json.dumps(noted | new, indent=1) + "\n")


def usual_kernel(run_dir: Path) -> BootedKernel | None:
    """What kernels run that are not planned yet; None if nobody noted it."""
    try:
        return BootedKernel(**(_read(run_dir / BOOTED_FILE)[_USUAL] or {}))
    except (KeyError, TypeError):
        return None


def note_started(run_dir: Path, ids: Iterable[int], vmlinux: Path | None) -> None:
    """Note that kernels are started anew on a machine that is up.

    Args:
        vmlinux: what they run in place of what the machine was booted with; None for just that.
    """
    replaced = _read(run_dir / _REPLACED_FILE)
    for id in ids:
        if vmlinux is None:
            replaced.pop(str(id), None)
        else:
            replaced[str(id)] = _built_as(vmlinux)
    write_atomic(run_dir / _REPLACED_FILE, json.dumps(replaced, indent=1) + "\n")


def _built_as(vmlinux: Path) -> dict[str, str] | None:
    """The build that an image is of; None for one that did not come from the store."""
    try:
        facts = json.loads((vmlinux.parent / FACTS).read_text(encoding="utf-8"))
        return asdict(BootedKernel(facts["series"], facts["flavour"], facts["release"], str(vmlinux.parent)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def booted_kernels(run_dir: Path) -> dict[int, BootedKernel]:
    """What each kernel of a run runs, or ran last; those that nobody noted are missing."""
    noted = _read(run_dir / BOOTED_FILE) | _read(run_dir / _REPLACED_FILE)
    try:
        return {int(id): BootedKernel(**fields) for id, fields in noted.items() if fields is not None and id != _USUAL}
    except (ValueError, TypeError):
        return {}


def _read(path: Path) -> dict[str, dict[str, str] | None]:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
