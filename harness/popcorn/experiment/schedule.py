# SPDX-License-Identifier: Apache-2.0
"""Which trial is taken when.

A boot for each trial would take longer than all trials, so trials share boots. The iterations are cut into as many
blocks as each system is to be booted (``boots``). In each block every system is booted once for each state that its
trials need, in random order, and within a boot all workloads, core counts and iterations follow in random order. So
drift of the host within a boot hits all points alike, and what differs from boot to boot, or from the first hour to
the last, is spread over systems and is seen if there are several boots. The order follows from the seed alone.

Instructions, if they are counted, are so in boots of their own at the end, a trial for each point.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from popcorn.experiment.protocols import State, System, Workload
from popcorn.run.results import Kind


@dataclass(frozen=True, order=True)
class Trial:
    """One measurement to be taken."""

    system: str
    workload: str
    cores: int
    iteration: int
    """Counted from 1."""


@dataclass(frozen=True)
class BootJob:
    """Trials that share a boot, in their order. What a worker is given."""

    number: int
    """Counted from 1."""
    block: int
    system: str
    state: State
    trials: tuple[Trial, ...]
    counting: bool = False
    """Whether instructions are counted in it, and nothing is measured."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number:03}-{self.system}{'-counted' if self.counting else ''}"

    @property
    def kind(self) -> Kind:
        """Of its trials."""
        return "counted" if self.counting else "measured"


def schedule(
    pairs: Iterable[tuple[System, Workload, int]],
    iterations: int,
    boots: int,
    seed: int,
    counted: Iterable[tuple[System, Workload, int]] = (),
) -> list[BootJob]:
    """All trials in their order.

    Args:
        pairs: each system, workload and number of cores that is measured.
        boots: how often each system is booted for each state; no more than there are iterations.
        counted: those whose instructions are counted besides.
    """
    order = random.Random(seed)
    points = list(pairs)
    boots = max(1, min(boots, iterations))
    jobs: list[BootJob] = []
    for block in range(boots):
        # In equal parts, whatever is left in the first ones.
        own = [number for number in range(1, iterations + 1) if (number - 1) % boots == block]
        for (system_name, state), trials in _shuffled(points, own, order):
            jobs.append(BootJob(len(jobs) + 1, block, system_name, state, tuple(trials)))
    for (system_name, state), trials in _shuffled(list(counted), [1], order):
        jobs.append(BootJob(len(jobs) + 1, boots, system_name, state, tuple(trials), counting=True))
    return jobs


def _shuffled(
    points: Sequence[tuple[System, Workload, int]], iterations: Sequence[int], order: random.Random
) -> list[tuple[tuple[str, State], list[Trial]]]:
    """Trials by the boots that they need, both in random order."""
    groups: dict[tuple[str, State], list[Trial]] = {}
    for system, workload, cores in points:
        state = system.state(cores, workload.needs.together)
        trials = groups.setdefault((system.name, state), [])
        trials += [Trial(system.name, workload.name, cores, number) for number in iterations]
    keys = list(groups)
    order.shuffle(keys)
    for key in keys:
        order.shuffle(groups[key])
    return [(key, groups[key]) for key in keys]


def remaining(jobs: Sequence[BootJob], done: Iterable[tuple[Kind, Trial]]) -> list[BootJob]:
    """The same jobs without the trials that are done, and without those that have none left."""
    taken = set(done)
    left = (replace(job, trials=tuple(one for one in job.trials if (job.kind, one) not in taken)) for job in jobs)
    return [job for job in left if job.trials]
