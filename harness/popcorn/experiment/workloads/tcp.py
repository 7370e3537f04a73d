# SPDX-License-Identifier: Apache-2.0
"""TCP by iperf3: between two kernels where a system has several, over the loopback where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from popcorn.config.sizes import MIB
from popcorn.errors import GuestError
from popcorn.experiment import counters
from popcorn.experiment.launch import Launcher
from popcorn.experiment.protocols import Booted, Needs, Outcome, Share, Workload, failure
from popcorn.guest.finished import Finished
from popcorn.run import iperf
from popcorn.run.results import Measurement

_CORES = 2
_LOOPBACK = "127.0.0.1"


class TcpOptions(BaseModel):
    """``kind = "tcp"``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: int = Field(3, ge=1)
    """Of one measurement."""

    def workloads(self) -> Sequence[Workload]:
        return [Tcp(self.seconds)]


@dataclass(frozen=True)
class Tcp:
    """Throughput that the receiver got."""

    seconds: int

    name = "tcp"
    group = "TCP between two cores"
    parameter = None
    metric = "throughput"
    unit = "Gbit/s"
    less_is_better = False
    needs = Needs(kernels=2, programs=("iperf3",))

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        return (_CORES,)

    def memory_bytes(self, cores: int, total: int) -> int:
        return 64 * MIB

    def estimate_s(self, cores: int) -> float:
        return self.seconds + 1.0

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        """Start a server in every kernel; which of them serves is for each trial to say."""
        for kernel in booted.kernels[:_CORES]:
            iperf.serve(partial(_run, booted, kernel.id), f"kernel {kernel.id}")

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        client, server = shares[0].kernel, shares[-1].kernel
        address = _LOOPBACK if client.id == server.id else server.address
        kernels = list(dict.fromkeys((client.id, server.id)))
        launcher = Launcher.of(booted)
        said: list[Finished] = []

        def run(argv: Sequence[str], limit_s: float) -> Finished:
            said.append(_run(booted, client.id, argv, min(limit_s, timeout_s)))
            return said[-1]

        before = launcher.look(kernels)
        try:
            bits = iperf.throughput(run, address, self.seconds, f"kernel {client.id}")
        except GuestError as error:
            if not said:
                raise
            return Outcome(failure(said[-1].status), (), _raw(said), str(error))
        looks = zip(before, launcher.look(kernels, over=True), strict=True)
        found = (
            Measurement(self.metric, bits / 1e9, self.unit),
            Measurement("wall", float(self.seconds), "s"),
            *counters.differences(looks),
        )
        return Outcome("ok", found, _raw(said))


def _raw(said: Sequence[Finished]) -> bytes:
    return b"".join(done.stdout + done.stderr for done in said)


def _run(booted: Booted, kernel: int, argv: Sequence[str], timeout_s: float) -> Finished:
    return booted.run({kernel: argv}, timeout_s)[kernel]
