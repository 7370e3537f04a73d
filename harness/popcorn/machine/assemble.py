# SPDX-License-Identifier: Apache-2.0
"""From a plan to the files that QEMU boots: kernel, kexec and images are built if they are not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.build.kernel import build_kernel
from popcorn.machine.boot import BootFiles
from popcorn.machine.kernelfile import check_bzimage, check_initrd, check_vmlinux
from popcorn.machine.limits import require_room
from popcorn.machine.orders import hosts_file, launch_files
from popcorn.plan.model import Plan

# Of two equal parameters the last counts. KASAN has no shadow for the vmalloc area, where percpu_alloc=page puts what
# each CPU has, the stack of its interrupts included.
_PARAMETERS = {"debug": "percpu_alloc=embed"}


def for_flavour(plan: Plan, flavour: str) -> Plan:
    """The plan with what kernels of a flavour need on their command lines."""
    more = _PARAMETERS.get(flavour)
    return plan.with_parameters(more) if more else plan


def kernel_files(
    plan: Plan,
    *,
    series: str = "6.12",
    flavour: str = "default",
    source: Path | None = None,
    vmlinux: Path | None = None,
    secondary_initrd: Path | None = None,
    more_files: Mapping[str, tuple[bytes, int]] | None = None,
) -> tuple[KernelArtifact, BootFiles]:
    """What boots a plan.

    Args:
        source: a kernel tree or tarball instead of Debian's.
        vmlinux: what the secondaries run instead of the series' kernel.
        secondary_initrd: what they unpack instead of the image layer's.
        more_files: further files for the primary: path, to content and mode.

    Raises:
        UserError: a given file is not what it should be, or a kernel has too little memory for its flavour.
        PopcornError: something could not be built.
    """
    from popcorn.build.kexec import build_kexec
    from popcorn.image import build_image, keys, write_initrd

    if vmlinux is not None:
        check_vmlinux(vmlinux)
    if secondary_initrd is not None:
        check_initrd(secondary_initrd)
    require_room(plan, flavour)
    kernel = build_kernel(series=series, flavour=flavour, source=source)
    kexec = build_kexec()
    primary = build_image("primary", kernel=kernel, kexec=kexec)
    secondary = build_image("secondary", kernel=kernel) if plan.secondaries else None
    check_bzimage(kernel.bzimage)
    started = kernel if vmlinux is None else replace(kernel, vmlinux=vmlinux)
    if secondary is not None and secondary_initrd is not None:
        secondary = replace(secondary, cpio=secondary_initrd)
    everywhere = {**keys().guest_files(), **hosts_file(plan)}
    files = {**launch_files(plan), **everywhere, **(more_files or {})}

    def write(target: Path) -> None:
        if secondary is None:
            write_initrd(target, primary, files)
        else:
            write_initrd(target, primary, files, kernel=started, secondary=secondary, secondary_files=everywhere)

    return kernel, BootFiles(kernel=kernel.bzimage, header=kernel.header, write_initrd=write)
