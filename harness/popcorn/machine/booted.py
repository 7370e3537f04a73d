# SPDX-License-Identifier: Apache-2.0
"""Which kernels a machine was booted with, written into its run's folder: symbols must be those of that very build."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.files import write_atomic

BOOTED_FILE = "kernels.json"


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


def write_booted(run_dir: Path, kernels: Mapping[int, KernelArtifact]) -> None:
    """Note what each kernel runs, as far as it was built here."""
    noted = {
        str(id): asdict(BootedKernel(kernel.series, kernel.flavour, kernel.release, str(kernel.dir)))
        for id, kernel in sorted(kernels.items())
    }
    write_atomic(run_dir / BOOTED_FILE, json.dumps(noted, indent=1) + "\n")


def booted_kernels(run_dir: Path) -> dict[int, BootedKernel]:
    """What each kernel of a run was booted with; those that nobody noted are missing."""
    try:
        noted = json.loads((run_dir / BOOTED_FILE).read_text(encoding="utf-8"))
        return {int(id): BootedKernel(**fields) for id, fields in noted.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
