# SPDX-License-Identifier: Apache-2.0
"""Popcorn's messages between two kernels: throughput by size, beside the same bytes copied without protocol; and the
time of a round trip, beside a function call on another CPU of the same kernel.

More of it, and against goals, is what `popcorn bench messages` measures (`popcorn.run.msgbench`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from popcorn.experiment.protocols import Booted, Needs, Outcome, Share, Workload, failure
from popcorn.run.msgtool import answers, counters
from popcorn.run.results import Measurement

What = Literal["stream", "copy", "ping"]
_CORES = 2
_ESTIMATE_S = 1.0
# So many messages of a size take some tenths of a second under emulation.
_COUNTS = ((256, 20_000), (4096, 5_000), (1 << 30, 1_500))
_PINGS = 1_000


class MessageOptions(BaseModel):
    """``kind = "messages"``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: tuple[What, ...] = Field(("stream", "copy"), min_length=1)
    sizes: tuple[int, ...] = Field((32, 256, 4096, 65536), min_length=1)
    """Payloads in bytes; of a ping none is taken."""

    def workloads(self) -> Sequence[Workload]:
        return [Messages(what, size) for what in self.what for size in ((0,) if what == "ping" else self.sizes)]


@dataclass(frozen=True)
class Messages:
    """Messages of one size from one kernel to another."""

    what: What
    size: int

    @property
    def name(self) -> str:
        return "messages.ping" if self.what == "ping" else f"messages.{self.what}.{self.size}"

    @property
    def group(self) -> str:
        return {
            "stream": "messages",
            "copy": "the same bytes copied, without protocol",
            "ping": "round trip of a message",
        }[self.what]

    @property
    def parameter(self) -> int | None:
        return None if self.what == "ping" else self.size

    @property
    def metric(self) -> str:
        return "round_trip" if self.what == "ping" else "throughput"

    @property
    def unit(self) -> str:
        return "µs" if self.what == "ping" else "MB/s"

    @property
    def less_is_better(self) -> bool:
        return self.what == "ping"

    @property
    def needs(self) -> Needs:
        return Needs(kernels=_CORES, messages=True)

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        return (_CORES,)

    def memory_bytes(self, cores: int, total: int) -> int:
        return 0

    def estimate_s(self, cores: int) -> float:
        return _ESTIMATE_S

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        """Nothing: the tool is in every image."""

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        sender, receiver = shares[0].kernel.id, shares[1].kernel.id
        count = _PINGS if self.what == "ping" else next(count for size, count in _COUNTS if self.size <= size)
        words = [self.what, str(receiver), "-n", str(count)]
        if self.what != "ping":
            words += ["-l", str(self.size)]
        before = counters(booted.machines[0], sender, receiver)
        done = booted.run({sender: ["popcorn-msg", *words]}, timeout_s)[sender]
        if done.status:
            said = done.stderr_text.strip() or "it said nothing"
            return Outcome(failure(done.status), (), done.stdout + done.stderr, f"kernel {sender}: {said}")
        (answer,) = answers(sender, done)
        after = counters(booted.machines[0], sender, receiver)
        sent = {name: after[name] - before[name] for name in ("tx_msgs", "ipis_sent")}
        return Outcome(
            "ok",
            (
                self._measured(answer),
                Measurement("count.messages", float(sent["tx_msgs"]), ""),
                Measurement("count.message_ipis", float(sent["ipis_sent"]), ""),
            ),
            done.stdout + done.stderr,
        )

    def _measured(self, answer: dict[str, object]) -> Measurement:
        if self.what == "ping":
            trip = answer["round_trip"]
            assert isinstance(trip, dict)
            return Measurement(self.metric, float(trip["median"]) / 1e3, self.unit)
        per_s = float(str(answer["delivered"])) * 1e9 / float(str(answer["ns"]))
        return Measurement(self.metric, per_s * self.size / 1e6, self.unit)
