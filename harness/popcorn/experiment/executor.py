# SPDX-License-Identifier: Apache-2.0
"""Taking the trials of boot jobs. What is to be done comes as values and what was found goes back as values, so that
jobs can as well be taken elsewhere: an executor is anything that turns jobs into events."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from popcorn.errors import GuestError
from popcorn.experiment.counters import INSTRUCTIONS
from popcorn.experiment.placement import place
from popcorn.experiment.programs import files_of, mark_files
from popcorn.experiment.protocols import Booted, Files, Outcome, Workload
from popcorn.experiment.ready import Ready
from popcorn.experiment.schedule import BootJob, Trial
from popcorn.experiment.watch import idle_share, supervised
from popcorn.machine.qemu import Accel
from popcorn.run.manifest import Manifest
from popcorn.run.results import Kind, Measurement

_WARM_UP: Kind = "warm-up"


@dataclass(frozen=True)
class BootBegun:
    """A system is about to be booted."""

    job: BootJob


@dataclass(frozen=True)
class BootDone:
    """A system is up."""

    job: BootJob
    folder: str
    """Where it is recorded, among the run's boots."""
    manifest: Manifest
    seconds: float


@dataclass(frozen=True)
class TrialDone:
    """A trial has ended, somehow."""

    job: BootJob
    folder: str
    trial: Trial
    kind: Kind
    outcome: Outcome
    host: str
    begun: float
    ended: float


Event = BootBegun | BootDone | TrialDone


class Executor(Protocol):
    """Takes the trials of jobs, in an order of its own as far as jobs are concerned."""

    def events(self, jobs: Sequence[BootJob]) -> Iterator[Event]:
        """What happens, as it happens. What is recorded must be recorded before the next event is asked for.

        Raises:
            PopcornError: a system could not be booted.
        """


@dataclass(frozen=True)
class LocalExecutor:
    """One job after the other, on this host."""

    ready: Ready
    accel: Accel
    boots_dir: Path
    quiet_s: float = 2.0
    """How long a system is looked at when it has come up, to know what it takes without work."""

    def events(self, jobs: Sequence[BootJob]) -> Iterator[Event]:
        if not jobs:
            return
        files = files_of(self.ready.programs, self.ready.trees)
        for job in jobs:
            left = list(job.trials)
            # A trial that leaves the system in an unknown state is the last one of its boot.
            while left:
                yield BootBegun(job)
                yield from self._one_boot(job, left, {**files, **mark_files()} if job.counting else files)

    def _one_boot(self, job: BootJob, left: list[Trial], files: Files) -> Iterator[Event]:
        system = self.ready.systems[job.system]
        began = time.monotonic()
        folder = new_folder(self.boots_dir, job)
        # Only the emulator can count; what it counts does not depend on what else is measured with.
        accel = "tcg" if job.counting else self.accel
        with system.boot(job.state, accel, files, folder, counting=job.counting) as booted:
            yield BootDone(job, folder.name, booted.manifest, time.monotonic() - began)
            share = idle_share(booted, self.quiet_s)
            for trial, kind in [*((one, _WARM_UP) for one in warm_ups(left)), *((one, job.kind) for one in left)]:
                workload = self.ready.workloads[trial.workload]
                if kind == _WARM_UP:
                    workload.prepare(booted, sorted({one.cores for one in left if one.workload == trial.workload}))
                done = self._take(job, folder.name, trial, kind, workload, booted, share)
                if kind == job.kind:
                    left.remove(trial)
                yield done
                if done.outcome.status in ("hung", "killed") or not booted.alive():
                    if kind == _WARM_UP:
                        raise GuestError(
                            f"{job.system} did not come through the warm-up with {trial.workload} on {trial.cores} "
                            f"cores: {done.outcome.status}: {done.outcome.reason}",
                            hint=f"its consoles are in {folder}",
                        )
                    return

    def _take(
        self, job: BootJob, folder: str, trial: Trial, kind: Kind, workload: Workload, booted: Booted, share: float
    ) -> TrialDone:
        shares = place(
            booted.kernels, trial.cores, together=workload.needs.together, least_kernels=workload.needs.kernels
        )
        instructions = booted.counting()
        begun, cpu_before, began = time.time(), booted.host_cpu_s(), time.monotonic()
        outcome = supervised(workload, booted, shares, timeout_s=self.ready.experiment.timeout_s, idle_share=share)
        wall_s = time.monotonic() - began
        if outcome.status == "ok" and job.counting:
            outcome = _counted(outcome, instructions([share.kernel.id for share in shares]))
        elif outcome.status == "ok":
            of_host = (
                Measurement("host.cpu", booted.host_cpu_s() - cpu_before, "s"),
                Measurement("host.wall", wall_s, "s"),
                Measurement("host.load", os.getloadavg()[0], ""),
            )
            outcome = Outcome("ok", (*outcome.measurements, *of_host), outcome.raw)
        else:
            metric, unit = (INSTRUCTIONS, "") if job.counting else (workload.metric, workload.unit)
            nothing = Measurement(metric, None, unit, status=outcome.status)
            outcome = Outcome(outcome.status, (nothing,), outcome.raw, outcome.reason)
        return TrialDone(job, folder, trial, kind, outcome, platform.node(), begun, begun + wall_s)


def _counted(outcome: Outcome, instructions: int | None) -> Outcome:
    """How a trial ended whose instructions were counted: what else was measured is distorted by that."""
    if instructions is None:
        nothing = Measurement(INSTRUCTIONS, None, "", status="void")
        return Outcome("void", (nothing,), outcome.raw, "a kernel did not mark where the workload began and ended")
    return Outcome("ok", (Measurement(INSTRUCTIONS, float(instructions), ""),), outcome.raw)


def new_folder(boots_dir: Path, job: BootJob) -> Path:
    """Where a boot will be recorded: beside earlier boots of the job, after a resume or a machine that was lost."""
    names = (job.name if attempt == 1 else f"{job.name}-{attempt}" for attempt in count(1))
    return next(boots_dir / name for name in names if not (boots_dir / name).exists())


def warm_ups(trials: Sequence[Trial]) -> list[Trial]:
    """One of each workload, with the most cores that it has in this boot; in the order of the trials."""
    most: dict[str, Trial] = {}
    for trial in trials:
        known = most.get(trial.workload)
        if known is None or trial.cores > known.cores:
            most[trial.workload] = Trial(trial.system, trial.workload, trial.cores, 0)
    return list(most.values())
