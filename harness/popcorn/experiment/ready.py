# SPDX-License-Identifier: Apache-2.0
"""From a description and what the user typed to what will be measured; everything that can be wrong is told here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from popcorn.build.series import load_series
from popcorn.config import Machine, load_machine
from popcorn.config.sizes import format_size
from popcorn.errors import UserError
from popcorn.experiment.description import Claim, Experiment, Source, read_experiment, unknown
from popcorn.experiment.placement import obstacle, too_large
from popcorn.experiment.protocols import Setting, System, Workload
from popcorn.experiment.schedule import BootJob, schedule
from popcorn.experiment.systems import SYSTEMS
from popcorn.experiment.workloads import make_workloads
from popcorn.image.npbtree import TreeProgram
from popcorn.machine.registry import check_name


@dataclass(frozen=True)
class Wanted:
    """What the command line says in place of the description; None and empty leave it."""

    machine: str | None = None
    systems: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    iterations: int | None = None
    boots: int | None = None
    size: str | None = None
    npb_source: str | None = None
    """Folder of a user's own NPB tree."""
    series: str = "6.12"
    seed: int = 1
    instructions: bool = False
    """Whether instructions are counted besides, in boots of their own."""
    name: str = "run"


@dataclass(frozen=True)
class Left:
    """Something that is not measured, and why."""

    system: str
    workload: str
    cores: int
    reason: str


@dataclass(frozen=True)
class Ready:
    """An experiment that can be run."""

    source: Source
    experiment: Experiment
    """With what the command line changed."""
    wanted: Wanted
    setting: Setting
    systems: dict[str, System]
    workloads: dict[str, Workload]
    jobs: list[BootJob]
    left_out: list[Left]

    @property
    def trials(self) -> int:
        return sum(len(job.trials) for job in self.jobs)

    @property
    def programs(self) -> tuple[str, ...]:
        """What the workloads want in every kernel."""
        return tuple(dict.fromkeys(name for one in self.workloads.values() for name in one.needs.programs))

    @property
    def trees(self) -> tuple[TreeProgram, ...]:
        """What of a user's own NPB tree they want there."""
        return tuple(dict.fromkeys(tree for one in self.workloads.values() for tree in one.needs.trees))


def get_ready(source: Source, wanted: Wanted, machine: Machine | None = None) -> Ready:
    """Check everything and plan the trials; boots and builds nothing.

    Args:
        machine: as it was when the run began; else the one that is named.

    Raises:
        UserError: the description is wrong, or the machine has not what it asks for.
    """
    experiment = _changed(read_experiment(source), wanted)
    for number, name in enumerate(experiment.systems):
        if name not in SYSTEMS:
            raise _unknown_system(source, wanted, number, name)
    for number, claim in enumerate(experiment.claims):
        _check_claim(source, number, claim)
    machine = machine or load_machine(experiment.machine)
    for cores in experiment.cores:
        if cores > machine.nr_cpus:
            where = "--cores" if wanted.cores else source.line("cores")
            raise UserError(
                f"{where}: {cores} cores are asked for, and machine {machine.name} has {machine.nr_cpus}",
                hint="name fewer with --cores, or a larger machine with --machine",
            )
    load_series(wanted.series)
    check_name(wanted.name)
    workloads = make_workloads(experiment, source, size=wanted.size, npb_source=wanted.npb_source)
    counts = {name: tuple(one.cores(experiment.cores)) for name, one in workloads.items()}
    most = max(cores for own in counts.values() for cores in own)
    if most > machine.nr_cpus:
        raise UserError(f"a workload of {source.name} needs {most} cores, and {machine.name} has {machine.nr_cpus}")
    client = any(one.needs.client for one in workloads.values())
    setting = Setting(wanted.name, machine, wanted.series, most, client)
    systems = {name: SYSTEMS[name](setting) for name in experiment.systems}
    pairs: list[tuple[System, Workload, int]] = []
    left_out: list[Left] = []
    for system in systems.values():
        for workload in workloads.values():
            for cores in counts[workload.name]:
                reason = obstacle(system, workload, cores)
                if reason:
                    left_out.append(Left(system.name, workload.name, cores, reason))
                    continue
                if complaint := too_large(system, workload, cores):
                    raise UserError(complaint, hint="choose a smaller --class, fewer --cores or a larger --machine")
                pairs.append((system, workload, cores))
    if not pairs:
        raise UserError(
            f"{source.name}: nothing can be measured: {left_out[0].system} cannot run {left_out[0].workload}: "
            f"{left_out[0].reason}",
            hint="choose other --systems or --cores",
        )
    _require_memory(pairs)
    counted = [pair for pair in pairs if experiment.instructions and pair[1].needs.marks]
    if experiment.instructions and not counted:
        raise UserError(
            f"{source.name}: no instructions can be counted: none of its workloads marks where it begins and ends",
            hint="leave --instructions out" if wanted.instructions else "leave it out of the description",
        )
    jobs = schedule(pairs, experiment.iterations, experiment.boots, wanted.seed, counted)
    return Ready(source, experiment, wanted, setting, systems, workloads, jobs, left_out)


def _changed(experiment: Experiment, wanted: Wanted) -> Experiment:
    changes = {
        "machine": wanted.machine,
        "systems": wanted.systems,
        "cores": tuple(sorted(set(wanted.cores))),
        "iterations": wanted.iterations,
        "boots": wanted.boots,
        "instructions": wanted.instructions,
    }
    return experiment.model_copy(update={name: value for name, value in changes.items() if value})


def _unknown_system(source: Source, wanted: Wanted, number: int, name: str) -> UserError:
    error = unknown(source, ("systems",), "system", name, list(SYSTEMS))
    if wanted.systems:
        return UserError(f"--systems: unknown system {name!r}", hint=error.hint)
    return error


def _check_claim(source: Source, number: int, claim: Claim) -> None:
    for name in claim.ratio:
        if name not in SYSTEMS:
            raise unknown(source, ("claims", number, "ratio"), "system", name, list(SYSTEMS))


def _require_memory(pairs: Sequence[tuple[System, Workload, int]]) -> None:
    """Refuse what the host's memory can never hold: guests that swap measure the disk."""
    total = psutil.virtual_memory().total
    for system, workload, cores in pairs:
        state = system.state(cores, workload.needs.together)
        processes = 1 if workload.needs.together else cores
        each = workload.memory_bytes(cores if processes == 1 else 1, cores)
        wanted = system.host_bytes(state) + processes * each
        if wanted > total:
            raise UserError(
                f"{workload.name} on {cores} cores of {system.name} takes about {format_size(wanted)} of memory, and "
                f"the host has {format_size(total)}",
                hint="choose a smaller --class or fewer --cores",
            )
