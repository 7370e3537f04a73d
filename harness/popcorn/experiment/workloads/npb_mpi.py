# SPDX-License-Identifier: Apache-2.0
"""NAS parallel benchmarks with MPI, as in the paper's figures 9 to 11: a process on each core, over the kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from popcorn.config.sizes import MIB
from popcorn.experiment.launch import Ended, Launcher
from popcorn.experiment.mpi import Mpi
from popcorn.experiment.protocols import Booted, Needs, Outcome, Share, Workload
from popcorn.experiment.workloads import npb
from popcorn.image.mpi import NPB_MPI
from popcorn.image.npbtree import TreeProgram, find_suite

Benchmark = Literal["is", "cg", "ft"]
Size = Literal["S", "W", "A", "B"]

# What all processes take together, MiB: arrays as they are allocated.
_MEMORY_MIB = {
    "is": {"S": 1, "W": 13, "A": 98, "B": 393},
    "cg": {"S": 3, "W": 11, "A": 35, "B": 240},
    "ft": {"S": 13, "W": 25, "A": 403, "B": 1611},
}
# A kernel with its userspace and the files of MPICH, and what each process takes before it begins.
_KERNEL_MIB, _PROCESS_MIB = 48 + 48, 16
# Of a process, to be started by ssh and to find the others, on two cores without KVM.
_START_S = 1.5


class NpbMpiOptions(BaseModel):
    """``kind = "npb-mpi"``"""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    benchmark: Benchmark
    size: Size = Field(alias="class")

    def workloads(self) -> Sequence[Workload]:
        return [NpbMpi(self.benchmark, self.size)]


@dataclass(frozen=True)
class NpbMpi:
    """One benchmark of one class. Its time is that of the part that the specification has timed, of the slowest
    process."""

    benchmark: Benchmark
    size: Size
    trees: tuple[TreeProgram, ...] = ()
    """Instead of our own program; one for each number of processes."""

    metric = "time"
    unit = "s"
    less_is_better = True
    parameter = None

    @property
    def name(self) -> str:
        return f"npb-mpi.{self.benchmark}.{self.size}"

    @property
    def group(self) -> str:
        tree = self.trees[0] if self.trees else None
        return f"NPB {self.benchmark.upper()} class {self.size}: MPI, a process a core{npb.of_tree(tree)}"

    @property
    def needs(self) -> Needs:
        return Needs(marks=True, programs=("mpi",), trees=self.trees)

    def from_tree(self, tree: Path, cores: Sequence[int]) -> NpbMpi:
        """With the benchmark of a user's own tree; errors as for `find_suite`."""
        suite = find_suite(tree, "mpi")
        return replace(
            self, trees=tuple(TreeProgram(suite, self.benchmark, self.size, "mpi", count) for count in cores)
        )

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        return wanted

    def memory_bytes(self, cores: int, total: int) -> int:
        arrays = _MEMORY_MIB[self.benchmark][self.size] * cores // total
        return (_KERNEL_MIB + _PROCESS_MIB * cores + arrays) * MIB

    def estimate_s(self, cores: int) -> float:
        host_cores = len(os.sched_getaffinity(0))
        one = npb.GUESSED_S[self.benchmark][self.size]
        return _START_S * cores + 1.5 * one / min(cores, host_cores)

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        """All kernels that any trial will use, at once."""
        left, used = max(cores), []
        for kernel in booted.kernels:
            if left > 0:
                used.append(kernel)
                left -= kernel.cpus
        Mpi.of(booted).prepare(used)

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        cores = sum(share.cores for share in shares)
        own = next((tree.guest_path for tree in self.trees if tree.ranks == cores), None)
        program = [own] if own else [NPB_MPI, self.benchmark, self.size]
        argv = Mpi.of(booted).command(shares, program)
        ended = Launcher.of(booted).run_first(shares, argv, timeout_s=timeout_s)
        return npb.judge(first_answer(ended), self.benchmark, self.size, cores, "processes")


def first_answer(ended: Ended) -> Ended:
    """Without what mpiexec adds to the answer of its first process."""
    found = []
    for process in ended.processes:
        lines = [line for line in process.done.stdout.splitlines() if line.startswith(b"{")]
        found.append(replace(process, done=replace(process.done, stdout=lines[0] if lines else process.done.stdout)))
    return replace(ended, processes=tuple(found))
