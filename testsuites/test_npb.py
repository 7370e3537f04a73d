# SPDX-License-Identifier: Apache-2.0
"""The NAS benchmarks verify in partitions and on SMP Linux, with a thread on each CPU."""

from __future__ import annotations

import pytest

from popcorn.machine.machine import Machine
from popcorn.plan.model import Partition
from popcorn.run.npb import BENCHMARKS, run_npb

_POLICIES = [
    pytest.param(None, marks=pytest.mark.machine("small", policy="per-core"), id="per-core"),
    pytest.param(None, marks=pytest.mark.machine("small", policy="0;1,3;2,5,7;4,6"), id="scattered"),
    pytest.param(None, marks=pytest.mark.machine("small", policy="per-node"), id="per-node"),
    pytest.param(None, marks=pytest.mark.machine("small", policy="smp"), id="smp"),
]


def _partitions(machine: Machine, benchmark: str) -> list[Partition]:
    """Those in which a benchmark runs: the shortest in all at once, others in one with each number of CPUs."""
    every = list(machine.plan.partitions)
    return every if benchmark == "is" else list({len(partition.cpus): partition for partition in every}.values())


@pytest.mark.parametrize("_layout", _POLICIES)
@pytest.mark.parametrize("size", ["S", pytest.param("W", marks=pytest.mark.slow)])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_benchmark_verifies_in_partitions(_layout: None, benchmark: str, size: str, machine: Machine) -> None:
    ids = [partition.id for partition in _partitions(machine, benchmark)]
    answers = [answer for answer, _ in run_npb(machine, benchmark, size, ids)]
    assert [answer.kernel for answer in answers] == ids
    for answer in answers:
        assert answer.verified, f"kernel {answer.kernel}: {answer.complaint}"
        assert answer.threads == len(machine.plan.partition(answer.kernel).cpus)
