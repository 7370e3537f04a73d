# SPDX-License-Identifier: Apache-2.0
"""A run that never was, for tests of what is made of runs."""

from __future__ import annotations

from popcorn.config import load_machine
from popcorn.plan import make_plan
from popcorn.run.manifest import Host, Kernel, Manifest


def manifest() -> Manifest:
    """Of a small machine with a kernel a core."""
    return Manifest(
        popcorn="0",
        commit="",
        typed=("popcorn", "demo"),
        begun=1.0,
        host=Host(
            name="h", system="Linux", cpu="<c & d>", cores=2, memory_bytes=1 << 30, available_bytes=1 << 29, load=0.5
        ),
        qemu="7.2",
        accel="tcg",
        kernel=Kernel(
            release="6.12.0-popcorn",
            series="6.12",
            flavour="default",
            key="k",
            base="6.12.0",
            config_sha256="a",
            bzimage_sha256="b",
            vmlinux_sha256="c",
        ),
        plan=make_plan(load_machine("small"), "per-core"),
    )
