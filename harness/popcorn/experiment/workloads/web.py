# SPDX-License-Identifier: Apache-2.0
"""nginx in a kernel, asked by ApacheBench from a machine of its own on the same network: the paper's figure 15."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from popcorn.config.sizes import MIB
from popcorn.errors import GuestError
from popcorn.experiment import counters
from popcorn.experiment.launch import Launcher
from popcorn.experiment.protocols import Booted, Client, Needs, Outcome, Share, Workload, failure
from popcorn.run import web
from popcorn.run.results import Measurement

_CORES = 1
_MEMORY = 96 * MIB
_START_S = 60.0
_REQUESTS = {"S": 1_000, "W": 3_000, "A": 10_000, "B": 100_000}
# On two cores without KVM, to one digit.
_REQUESTS_PER_S = 400.0

PERCENTILE = "response.p"
"""What the metric of a percentile of the response times begins with; the percentage follows."""


class WebOptions(BaseModel):
    """``kind = "web"``"""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    size: Literal["S", "W", "A", "B"] = Field("A", alias="class")
    """How many requests: 1,000, 3,000, 10,000 (as in the paper) or 100,000."""
    concurrency: tuple[int, ...] = Field((100, 1000), min_length=1)
    """How many at a time."""

    def workloads(self) -> Sequence[Workload]:
        return [Web(_REQUESTS[self.size], count) for count in self.concurrency]


@dataclass(frozen=True)
class Web:
    """Some requests for a small page, each over a connection of its own. nginx has one worker, as the kernel of a core
    has one CPU."""

    requests: int
    concurrency: int

    metric = "median_response"
    unit = "ms"
    less_is_better = True
    parameter = None
    needs = Needs(client=True, marks=True, programs=("web",))

    @property
    def name(self) -> str:
        return f"web.{self.requests}.c{self.concurrency}"

    @property
    def group(self) -> str:
        return f"nginx: {self.requests} requests, {self.concurrency} at a time"

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        return (_CORES,)

    def memory_bytes(self, cores: int, total: int) -> int:
        return _MEMORY

    def estimate_s(self, cores: int) -> float:
        return 1.0 + self.requests / _REQUESTS_PER_S

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        """Start the server in the first kernel: of Popcorn a secondary one."""
        kernel = booted.kernels[0].id
        done = booted.run({kernel: web.serve_words()}, _START_S)[kernel]
        if done.status:
            said = done.stderr_text.strip() or f"exit status {done.status}"
            raise GuestError(f"nginx does not start in kernel {kernel}: {said}")

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        kernel = shares[0].kernel
        client = _client(booted)
        launcher = Launcher.of(booted)
        before = launcher.look([kernel.id])
        done = client.run(web.ask_words(client.address(kernel), self.requests, self.concurrency), timeout_s)
        after = launcher.look([kernel.id], over=True)
        raw = done.stdout + done.stderr
        if done.status:
            said = done.stderr_text.strip() or "it said nothing"
            return Outcome(failure(done.status), (), raw, f"ab, exit status {done.status}: {said}")
        try:
            answer = web.read_answer(done)
        except ValueError as error:
            return Outcome("failed", (), raw, str(error))
        if answer.complete != self.requests or answer.failed:
            reason = f"{answer.complete} of {self.requests} requests were answered, {answer.failed} of them wrongly"
            return Outcome("void", (), raw, reason)
        found = [
            Measurement(self.metric, answer.times_ms[50], self.unit),
            Measurement("rate", answer.per_second, "requests/s"),
            Measurement("wall", answer.seconds, "s"),
            *(Measurement(f"{PERCENTILE}{percent}", time, "ms") for percent, time in enumerate(answer.times_ms)),
            *counters.differences(zip(before, after, strict=True)),
        ]
        return Outcome("ok", tuple(found), raw)


def _client(booted: Booted) -> Client:
    if booted.client is None:
        raise GuestError("this system was booted without a client")
    return booted.client
