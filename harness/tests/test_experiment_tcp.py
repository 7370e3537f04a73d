# SPDX-License-Identifier: Apache-2.0
"""TCP as a workload: what of an answer is measured, and what kernels counted meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
from experiment_fakes import FakeBooted, Stage

from popcorn.experiment.protocols import Kernel, Share
from popcorn.experiment.workloads.tcp import Tcp
from popcorn.guest.finished import Finished

_ANSWER = {"end": {"sum_received": {"bits_per_second": 2e9}}}


class Kernels(FakeBooted):
    """Kernels in which each look finds seven more context switches, and where iperf3 answers at once."""

    switches = 0

    def run(self, commands: Mapping[int, Sequence[str]], timeout_s: float) -> dict[int, Finished]:
        return {kernel: self._one(argv) for kernel, argv in commands.items()}

    def _one(self, argv: Sequence[str]) -> Finished:
        if argv[0] == "sh":
            self.switches += 7
            return Finished(tuple(argv), 0, f"@@ /proc/stat\nctxt {self.switches}\n".encode(), b"")
        return Finished(tuple(argv), 0, json.dumps(_ANSWER).encode(), b"")


@pytest.mark.parametrize("count", [1, 2])
def test_what_the_kernels_counted_stands_beside_the_throughput(count: int) -> None:
    kernels = [Kernel(id, 3 - count, 1 << 30, f"10.0.0.{id + 1}") for id in range(count)]
    shares = [Share(kernel, kernel.cpus) for kernel in kernels]
    outcome = Tcp(3).measure(Kernels(kernels, Stage()), shares, 60)
    values = {one.metric: one.value for one in outcome.measurements}
    assert outcome.status == "ok"
    assert values["throughput"] == 2.0
    assert values["count.context_switches"] == count * count * 7
