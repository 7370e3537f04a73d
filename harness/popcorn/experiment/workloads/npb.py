# SPDX-License-Identifier: Apache-2.0
"""NAS parallel benchmarks: one OpenMP program on all cores, or a single-threaded copy on each.

``npb-openmp`` is what the paper's figures 12 to 14 run. Its threads share memory, so that it needs one kernel with
all the cores. ``npb-copies`` is as many programs of one thread as there are cores, at the same time, in as many
kernels as the system has for them: what all systems can run, and how much they disturb each other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from popcorn.config.sizes import MIB
from popcorn.experiment.launch import Ended, Launcher
from popcorn.experiment.protocols import Booted, Needs, Outcome, Share, Workload, failure
from popcorn.image.npbtree import TreeProgram, find_suite
from popcorn.run.npb import parse
from popcorn.run.results import Measurement

Benchmark = Literal["is", "cg", "ft"]
Size = Literal["S", "W", "A", "B"]

# What one thread takes, MiB (testsuites/npb/README.md); and of IS, each further thread.
_MEMORY_MIB = {
    "is": {"S": 2, "W": 10, "A": 69, "B": 273},
    "cg": {"S": 3, "W": 11, "A": 35, "B": 240},
    "ft": {"S": 9, "W": 17, "A": 257, "B": 1025},
}
_IS_THREAD_MIB = {"S": 0, "W": 1, "A": 2, "B": 8}
# What the kernel and its userspace take beside it.
_KERNEL_MIB = 48
# Seconds of one thread on one core of a host without KVM, measured to one digit: for forecasts only.
GUESSED_S = {
    "is": {"S": 0.1, "W": 1.0, "A": 12.0, "B": 50.0},
    "cg": {"S": 0.5, "W": 3.0, "A": 12.0, "B": 400.0},
    "ft": {"S": 2.0, "W": 5.0, "A": 90.0, "B": 1200.0},
}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    benchmark: Benchmark
    size: Size = Field(alias="class")


class NpbOpenmpOptions(_Options):
    """``kind = "npb-openmp"``"""

    def workloads(self) -> Sequence[Workload]:
        return [Npb(self.benchmark, self.size, threads=True)]


class NpbCopiesOptions(_Options):
    """``kind = "npb-copies"``"""

    def workloads(self) -> Sequence[Workload]:
        return [Npb(self.benchmark, self.size, threads=False)]


@dataclass(frozen=True)
class Npb:
    """One benchmark of one class. Its time is that of the part that the specification has timed, of the last one to
    end if there are several."""

    benchmark: Benchmark
    size: Size
    threads: bool
    """One program with a thread for each core, rather than a program for each core."""
    tree: TreeProgram | None = None
    """Instead of the program in the image."""

    metric = "time"
    unit = "s"
    less_is_better = True
    parameter = None

    @property
    def name(self) -> str:
        return f"npb-{'openmp' if self.threads else 'copies'}.{self.benchmark}.{self.size}"

    @property
    def group(self) -> str:
        how = "one program, a thread a core" if self.threads else "a program of one thread on each core"
        return f"NPB {self.benchmark.upper()} class {self.size}: {how}{of_tree(self.tree)}"

    @property
    def needs(self) -> Needs:
        return Needs(together=self.threads, marks=True, trees=(self.tree,) if self.tree else ())

    def from_tree(self, tree: Path, cores: Sequence[int]) -> Npb:
        """With the benchmark of a user's own tree; errors as for `find_suite`."""
        return replace(self, tree=TreeProgram(find_suite(tree, "openmp"), self.benchmark, self.size, "openmp"))

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        return wanted

    def memory_bytes(self, cores: int, total: int) -> int:
        one = _MEMORY_MIB[self.benchmark][self.size]
        if not self.threads:
            return (_KERNEL_MIB + cores * one) * MIB
        more = _IS_THREAD_MIB[self.size] * (cores - 1) if self.benchmark == "is" else 0
        return (_KERNEL_MIB + one + more) * MIB

    def estimate_s(self, cores: int) -> float:
        one = GUESSED_S[self.benchmark][self.size]
        host_cores = len(os.sched_getaffinity(0))
        # Keys, matrices and one untimed pass take as long again in the small classes.
        return 1.5 * (one / min(cores, host_cores) if self.threads else one * max(1.0, cores / host_cores))

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        """Nothing: it is in every image."""

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        threads = shares[0].cores if self.threads else 1
        program = [self.tree.guest_path] if self.tree else ["npb", self.benchmark, self.size]
        argv = ["env", f"OMP_NUM_THREADS={threads}", *program]
        ended = Launcher.of(booted).run(shares, argv, per_core=not self.threads, timeout_s=timeout_s)
        return judge(ended, self.benchmark, self.size, threads)


def of_tree(tree: TreeProgram | None) -> str:
    """What a title says of where a program is from."""
    return f" ({tree.suite.name}, {tree.digest[:12]})" if tree else ""


def judge(ended: Ended, benchmark: str, size: str, threads: int, what: str = "threads") -> Outcome:
    """What a launch of a benchmark gave; a time only if every process verified.

    Args:
        what: its threads are called.
    """
    answers = [(process, parse(process.kernel, benchmark, size, process.done)) for process in ended.processes]
    for process, answer in answers:
        complaint = answer.complaint
        if answer.verified and answer.threads not in (None, threads):
            complaint = f"it ran with {answer.threads} {what} instead of {threads}"
        if complaint:
            status = "void" if answer.time_s is not None else failure(process.done.status)
            return Outcome(status, raw=ended.raw, reason=f"kernel {process.kernel}: {complaint}")
    times = [answer.time_s or 0.0 for _, answer in answers]
    rates = [answer.mop_s or 0.0 for _, answer in answers]
    found = [Measurement("time", max(times), "s"), Measurement("rate", sum(rates), "Mop/s")]
    if len(times) > 1:
        found.append(Measurement("time.first", min(times), "s"))
    return Outcome("ok", (*found, *ended.counted), ended.raw)
