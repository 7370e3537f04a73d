# SPDX-License-Identifier: Apache-2.0
"""Booting emulated machines inside a run's folder, for all systems."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from popcorn.experiment.protocols import Files
from popcorn.machine.instructions import InstructionFile
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.plan.model import Plan
from popcorn.run.manifest import Manifest, describe


@contextlib.contextmanager
def one_machine(
    plan: Plan,
    *,
    name: str,
    series: str,
    accel: Accel,
    files: Files,
    into: Path,
    qemu_options: Sequence[str] = (),
    counts: dict[str, InstructionFile] | None = None,
) -> Iterator[tuple[Machine, Manifest]]:
    """Boot a plan and wait for its kernels; it ends with the block. Counts as for `booting`.

    Raises:
        PopcornError: as `popcorn.machine.boot.up`.
    """
    with (
        booting(plan, series=series, accel=accel, files=files, counts=counts) as (start_one, manifest),
        start_one(name, into, qemu_options) as machine,
    ):
        await_all([machine])
        yield machine, manifest


Start = Callable[[str, Path, Sequence[str]], Machine]
"""Starts a machine under a name, recorded in a folder, with further words for QEMU."""


@contextlib.contextmanager
def booting(
    plan: Plan, *, series: str, accel: Accel, files: Files, counts: dict[str, InstructionFile] | None = None
) -> Iterator[tuple[Start, Manifest]]:
    """What boots a plan, built and put together: how to start a machine, and its manifest.

    Args:
        counts: gets the instruction counters of each machine that is started; None if they are not counted.
    """
    from popcorn.build.kernel import build_kernel
    from popcorn.image import build_image, overlay
    from popcorn.machine.assemble import kernel_files
    from popcorn.machine.boot import start

    with tempfile.TemporaryDirectory(prefix="popcorn-run-") as place:
        secondary = None
        if files and plan.secondaries:
            # For this boot alone: idle secondaries of others do not carry it.
            image = build_image("secondary", kernel=build_kernel(series=series))
            secondary = Path(place) / "secondary.cpio"
            secondary.write_bytes(image.cpio.read_bytes() + overlay(files))
        kernel, boot_files = kernel_files(plan, series=series, secondary_initrd=secondary, more_files=files)

        def start_one(name: str, into: Path, qemu_options: Sequence[str]) -> Machine:
            words = tuple(qemu_options)
            if counts is not None:
                counts[name] = InstructionFile.make(Path(place) / f"{name}.counts", plan.machine.nr_cpus)
                words += counts[name].qemu_options
            return start(plan, boot_files, name=name, accel=accel, tied=True, run_dir=into, qemu_options=words)

        yield start_one, describe(plan, kernel, accel, boot_files.kernels)


def await_all(machines: Sequence[Machine]) -> None:
    """Wait until the kernels of machines are up that were started side by side.

    Raises:
        PopcornError: as `popcorn.machine.arrival.await_kernels`.
    """
    from popcorn.machine.arrival import await_kernels

    for machine in machines:
        await_kernels(machine)
