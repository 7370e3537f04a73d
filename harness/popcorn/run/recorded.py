# SPDX-License-Identifier: Apache-2.0
"""Booting a machine whose use is recorded: manifest, results and report beside the recorder's logs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from popcorn.build.artifacts import KernelArtifact
from popcorn.clock import uptime_s
from popcorn.machine.arrival import DEFAULT_STALL_S
from popcorn.machine.boot import AccelChoice, BootFiles, start
from popcorn.machine.machine import Machine
from popcorn.plan.model import Plan
from popcorn.run.manifest import describe
from popcorn.run.measure import boot_measurements
from popcorn.run.results import Measurement, Results


@dataclass(frozen=True)
class RecordedRun:
    """A machine that is up, and where its measurements go."""

    machine: Machine
    results: Results
    boot: Sequence[Measurement]
    """What its boot took."""


@contextmanager
def recorded_run(
    plan: Plan,
    kernel: KernelArtifact,
    files: BootFiles,
    *,
    name: str,
    purpose: str,
    accel: AccelChoice = "auto",
    stall_s: float = DEFAULT_STALL_S,
) -> Iterator[RecordedRun]:
    """Boot a machine, measure its boot, and end it with the block.

    Args:
        purpose: what the measurements are for, e.g. ``demo``.

    Raises:
        PopcornError: as `popcorn.machine.boot.up`.
    """
    from popcorn.machine.arrival import await_kernels

    with start(plan, files, name=name, accel=accel, tied=True) as machine:
        manifest = describe(plan, kernel, machine.record.accel, files.kernels)
        manifest.save(machine.run_dir)
        with Results(machine.run_dir, purpose) as results:
            try:
                await_kernels(machine, stall_s=stall_s)
                boot = boot_measurements(machine, uptime_s() - machine.record.started_uptime)
                results.add(*boot)
                yield RecordedRun(machine, results, boot)
            finally:
                manifest.model_copy(update={"ended": time.time()}).save(machine.run_dir)
