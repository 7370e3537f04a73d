# SPDX-License-Identifier: Apache-2.0
"""From a plan to the files that QEMU boots: kernels, kexec and images are built if they are not there yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from popcorn.build.artifacts import KernelArtifact
from popcorn.build.kconfig import fragments
from popcorn.build.kernel import build_kernel
from popcorn.build.series import load_series
from popcorn.build.source import at_hand, find_base
from popcorn.errors import UserError
from popcorn.files import sha256_file
from popcorn.image.initrd import Files, files_digest, initrd_rules
from popcorn.machine.boot import BootFiles
from popcorn.machine.kernelfile import check_bzimage, check_initrd, check_vmlinux
from popcorn.machine.layout import load_layout
from popcorn.machine.limits import require_room
from popcorn.machine.orders import hosts_file, launch_files, memory_file, pace_file
from popcorn.machine.room import HOST_CPUS
from popcorn.plan.change import parameters_of
from popcorn.plan.model import Plan

# Of two equal parameters the last counts. KASAN has no shadow for the vmalloc area, where percpu_alloc=page puts what
# each CPU has, the stack of its interrupts included.
_PARAMETERS = {"debug": "percpu_alloc=embed"}
_WITHOUT_HOTPLUG = ("3.2",)


@dataclass(frozen=True)
class Choice:
    """Which kernel a partition runs."""

    series: str = "6.12"
    flavour: str = "default"
    source: Path | None = None
    """A kernel tree or tarball instead of what the series names."""


def for_flavour(plan: Plan, flavour: str, secondary_flavour: str | None = None) -> Plan:
    """The plan with what kernels of a flavour need on their command lines; the secondaries' may be another."""
    more = {
        partition.id: _PARAMETERS.get(flavour if partition.is_primary else secondary_flavour or flavour, "")
        for partition in plan.partitions
    }
    return plan.with_parameters(more) if any(more.values()) else plan


def parameters_for_more(plan: Plan, primary_flavour: str, usual_flavour: str) -> str:
    """The words at the end of the command lines of kernels that were not planned when the machine booted.

    Args:
        primary_flavour: of the primary.
        usual_flavour: of those kernels.
    """
    if plan.secondaries:
        return parameters_of(plan, plan.secondaries[0])
    theirs = _PARAMETERS.get(usual_flavour, "").split()
    own = _PARAMETERS.get(primary_flavour, "").split()
    return " ".join([*(word for word in parameters_of(plan, plan.primary).split() if word not in own), *theirs])


def kernel_files(
    plan: Plan,
    *,
    series: str = "6.12",
    flavour: str = "default",
    source: Path | None = None,
    secondaries: Choice | None = None,
    vmlinux: Path | None = None,
    secondary_initrd: Path | None = None,
    more_files: Mapping[str, tuple[bytes, int]] | None = None,
    kernel: KernelArtifact | None = None,
) -> tuple[KernelArtifact, BootFiles]:
    """What boots a plan, and the kernel of its primary.

    Args:
        source: a kernel tree or tarball instead of what the series names.
        secondaries: what the secondaries run, if not the same as the primary.
        vmlinux: what they run instead of a kernel built here.
        secondary_initrd: what they unpack instead of the image layer's.
        more_files: further files for the primary: path, to content and mode.
        kernel: one of this series and flavour that was built already.

    Raises:
        UserError: a given file is not what it should be, a kernel has too little memory for its flavour, or the
            kernels do not agree on the memory that they share.
        PopcornError: something could not be built.
    """
    from popcorn.build.kexec import build_kexec
    from popcorn.image import Startable, build_image, keys, write_initrd

    if vmlinux is not None:
        check_vmlinux(vmlinux)
    if secondary_initrd is not None:
        check_initrd(secondary_initrd)
    own = Choice(series, flavour, source)
    theirs = secondaries or own
    _require_hotplug(plan, series, flavour)
    for choice in (own, theirs):
        fragments(load_series(choice.series), choice.flavour)  # a mistake in a name, before anything else
    require_room(plan, theirs.flavour)
    if theirs != own and theirs.source is None and not at_hand(load_series(theirs.series)):
        find_base(load_series(theirs.series))  # what cannot be had is told before the first kernel is built
    kernel = kernel or _built(own)
    other = kernel if theirs == own else _built(theirs)
    require_one_contract([kernel, other])
    kexec = build_kexec()
    primary = build_image("primary", kernel=kernel, kexec=kexec)
    check_bzimage(kernel.bzimage)
    everywhere = {**keys().guest_files(), **hosts_file(plan)}
    startable = []
    contents = {"primary's image": primary.key, "way of writing initrds": initrd_rules()}
    files = {**memory_file(plan), **everywhere, **(more_files or {})}
    if plan.secondaries or plan.hotplug is not None:
        image = secondary_initrd or build_image("secondary", kernel=other).cpio
        usual = Startable(vmlinux or other.vmlinux, image)
        contents["secondaries' image"] = sha256_file(image) if secondary_initrd else image.parent.name
        contents["secondaries' vmlinux"] = sha256_file(vmlinux) if vmlinux else other.dir.name
        startable = [usual]
        runs = dict.fromkeys((partition.id for partition in plan.secondaries), usual)
        files = {**launch_files(plan, runs, usual), **files}
    contents["set of orders, names and keys"] = files_digest(files)
    # Of no machine's identity: one that was saved goes on under any number of CPUs. Two, so that one kernel that hangs
    # does not hold up the next.
    files = {**files, **pace_file(max(2, HOST_CPUS))}

    def write(target: Path) -> None:
        # Each once, however many run it.
        write_initrd(target, primary, files, startable=startable, secondary_files=everywhere)

    started = replace(other, vmlinux=vmlinux or other.vmlinux)
    kernels = {partition.id: kernel if partition.is_primary else started for partition in plan.partitions}
    boot = BootFiles(
        kernel=kernel.bzimage,
        header=kernel.header,
        write_initrd=write,
        kernels=kernels,
        usual=started,
        contents=contents,
    )
    return kernel, boot


def _require_hotplug(plan: Plan, series: str, flavour: str) -> None:
    if plan.hotplug is None:
        return
    if flavour == "debug":
        raise UserError(
            "the primary of this plan boots with little memory and takes the rest later, and one of flavour debug "
            "has no room for what KASAN keeps of it: an eighth, which cannot be moved",
            hint="let the secondaries alone be of that flavour (--secondary-flavour debug)",
        )
    if series in _WITHOUT_HOTPLUG:
        raise UserError(
            f"the primary of this plan gives memory away while it runs, which Linux {series} cannot: it takes memory "
            "offline, but has no way to let go of it on x86-64, nor to keep new memory for pages that can be moved",
            hint="let the primary be of series 6.12 (--secondary-series says what the others run)",
        )


def replacement(
    plan: Plan, choice: Choice | None, header: Path, *, vmlinux: Path | None = None, initrd: Path | None = None
) -> tuple[Path | None, Path | None, Files]:
    """What a kernel is started from on a machine that is up: vmlinux, initramfs, and what is added to that.

    Args:
        choice: a kernel that is built if it is not there; None for files alone.
        header: the ``popcorn.h`` of the machine.
        vmlinux: instead of the choice's.
        initrd: likewise.

    Raises:
        UserError: a file is not what it should be, or the kernel does not agree on the memory that is shared.
        PopcornError: something could not be built.
    """
    from popcorn.image import build_image, keys

    if vmlinux is not None:
        check_vmlinux(vmlinux)
    if initrd is not None:
        check_initrd(initrd)
    if choice is not None:
        fragments(load_series(choice.series), choice.flavour)
        kernel = _built(choice)
        require_contract_of(kernel, header)
        vmlinux = vmlinux or kernel.vmlinux
        initrd = initrd or build_image("secondary", kernel=kernel).cpio
    return vmlinux, initrd, {**keys().guest_files(), **hosts_file(plan)}


def require_contract_of(kernel: KernelArtifact, header: Path) -> None:
    """Refuse a kernel that does not agree with those of a machine on the memory that they share.

    Raises:
        UserError: naming both versions of popcorn.h.
    """
    theirs = load_layout(header).version
    own = load_layout(kernel.header).version if kernel.header is not None else None
    if own != theirs:
        raise UserError(
            f"{kernel.release} and the machine's kernels do not agree on the memory that they share: popcorn.h has "
            f"version {own} in the one and {theirs} in the others",
            hint="boot the machine anew with what is built now",
        )


def require_one_contract(kernels: Sequence[KernelArtifact]) -> None:
    """Refuse kernels that do not agree on the memory that they share.

    Raises:
        UserError: naming two of them and their versions of popcorn.h.
    """
    versions = {kernel.release: load_layout(kernel.header).version for kernel in kernels if kernel.header is not None}
    (first, version), *others = versions.items() or [("", 0)]
    for release, other in others:
        if other != version:
            raise UserError(
                f"kernels {first} and {release} do not agree on the memory that they share: popcorn.h has version "
                f"{version} in the one and {other} in the other",
                hint="build both from the same checkout; kernel-patches/README.md says how series share their sources",
            )


def _built(choice: Choice) -> KernelArtifact:
    return build_kernel(series=choice.series, flavour=choice.flavour, source=choice.source)
