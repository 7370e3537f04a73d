# SPDX-License-Identifier: Apache-2.0
"""From a plan to the files that QEMU boots: kernel, kexec and images are built if they are not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.build.kernel import build_kernel
from popcorn.machine.boot import BootFiles
from popcorn.machine.initrd import launch_files
from popcorn.plan.model import Plan

KERNEL_IN_GUEST = "/boot/vmlinux"
SECONDARY_INITRD_IN_GUEST = "/boot/secondary.cpio"


def kernel_files(
    plan: Plan,
    *,
    series: str = "6.12",
    flavour: str = "default",
    source: Path | None = None,
    more_files: Mapping[str, tuple[bytes, int]] | None = None,
) -> tuple[KernelArtifact, BootFiles]:
    """What boots a plan.

    Args:
        source: a kernel tree or tarball instead of Debian's.
        more_files: further files for the primary: path, to content and mode.

    Raises:
        PopcornError: something could not be built.
    """
    from popcorn.build.kexec import build_kexec
    from popcorn.image import build_image, overlay
    from popcorn.image.keys import keys

    kernel = build_kernel(series=series, flavour=flavour, source=source)
    kexec = build_kexec()
    initrd: list[Path | bytes] = [build_image("primary", kernel=kernel, kexec=kexec).cpio]
    files = {**launch_files(plan), **keys().guest_files(), **(more_files or {})}
    if plan.secondaries:
        secondary = build_image("secondary", kernel=kernel, kexec=None)
        files[KERNEL_IN_GUEST] = (kernel.vmlinux.read_bytes(), 0o644)
        files[SECONDARY_INITRD_IN_GUEST] = (secondary.cpio.read_bytes(), 0o644)
    initrd.append(overlay(files))
    return kernel, BootFiles(kernel=kernel.bzimage, initrd=tuple(initrd), header=kernel.header)
