# SPDX-License-Identifier: Apache-2.0
"""Whether kernels get on, judged by the CPU time that they got and not by the clock.

Dozens of virtual CPUs share few of the host's: a heart that has not beaten for long tells little. What its CPUs did
meanwhile, as the host accounts for QEMU's threads, tells the rest:

    hung     they ran for seconds, and the kernel did not get round to a beat
    silent   they wanted no time at all, while others went on: they are halted with interrupts off
    slow     they wanted time and did not get it
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from popcorn.machine.layout import Slot

Health = Literal["ok", "slow", "hung", "silent"]

# A heart beats once a second.
STILL_S = 5.0
# A beat takes an emulated CPU milliseconds.
HUNG_CPU_S = 5.0
# Before the heart beats, stages and messages are the signs of life; between two of them more is done.
BOOTING_FACTOR = 6
# A CPU that waits for nothing but the next tick uses less than this share of the time.
_IDLE_SHARE = 0.1
_OTHERS_BEATS = 3
# Nobody is there to compare with.
_ALONE_S = 15.0
_LOOK_S = 0.5
_THREAD_NAME = re.compile(r"CPU (\d+)/")
_LIVE = ("started", "early", "running")


@dataclass(frozen=True)
class Still:
    """What a kernel's CPUs did since its last sign of life. Seconds; of each the CPU with the most counts."""

    still_s: float
    cpu_s: float = 0.0
    waited_s: float = 0.0
    """How long they wanted to run and did not."""
    others_went_on: bool | None = None
    """Whether other kernels showed signs of life meanwhile; None if there is none that could."""
    booting: bool = False


def judge(still: Still) -> Health:
    """The health of a kernel that was still for some time."""
    factor = BOOTING_FACTOR if still.booting else 1
    if still.still_s < STILL_S:
        return "ok"
    if still.cpu_s >= HUNG_CPU_S * factor:
        return "hung"
    if still.waited_s > max(still.cpu_s, _IDLE_SHARE * still.still_s):
        return "slow"
    idle = still.cpu_s + still.waited_s < _IDLE_SHARE * still.still_s
    alone = still.others_went_on is None and still.still_s >= _ALONE_S
    if idle and still.still_s >= STILL_S * factor and (still.others_went_on or alone):
        return "silent"
    return "ok"


class CpuTimes:
    """CPU time of a QEMU's virtual CPUs, by their global numbers."""

    def __init__(self, qemu_pid: int) -> None:
        self._tasks = Path(f"/proc/{qemu_pid}/task")
        self._threads: dict[int, Path] = {}

    def read(self, cpus: Iterable[int]) -> dict[int, tuple[float, float]]:
        """Seconds that each CPU ran, and that it waited to; CPUs of which the host tells nothing are missing."""
        # All threads are there before a kernel can run; which CPUs it says that it has is not to be trusted.
        self._threads = self._threads or self._scan()
        found = {}
        for cpu in self._threads.keys() & set(cpus):
            try:
                ran_ns, waited_ns, _ = (self._threads[cpu] / "schedstat").read_text().split()
            except (OSError, ValueError):
                continue
            found[cpu] = int(ran_ns) / 1e9, int(waited_ns) / 1e9
        return found

    def _scan(self) -> dict[int, Path]:
        found = {}
        with contextlib.suppress(OSError):
            for task in self._tasks.iterdir():
                if name := _THREAD_NAME.match((task / "comm").read_text()):
                    found[int(name[1])] = task
        return found


@dataclass
class _Watched:
    """A kernel since its last sign of life."""

    generation: int
    sign: object
    since_s: float
    times: Mapping[int, tuple[float, float]]
    signs_of_all: int
    health: Health = "ok"
    still: Still = Still(0.0)


class Progress:
    """Watches the kernels of one machine; to be shown their slots every now and then."""

    def __init__(self, times: CpuTimes) -> None:
        self._times = times
        self._watched: dict[int, _Watched] = {}
        self._looked_at_s = float("-inf")
        self._signs: dict[int, int] = {}

    def look(self, slots: Iterable[Slot], now_s: float) -> list[tuple[int, Health, Still]]:
        """Take note of what the slots say; returns whose health has changed.

        Args:
            now_s: by a clock that nobody sets, and that stands still while the host sleeps.
        """
        live = {slot.id: slot for slot in slots if slot.state in _LIVE}
        if now_s - self._looked_at_s < _LOOK_S and all(map(self._knows, live.values())):
            return []
        self._looked_at_s = now_s
        for id in self._watched.keys() - live.keys():
            del self._watched[id]
        signs = {id: _sign_of(slot) for id, slot in live.items()}
        for id, sign in signs.items():
            if id not in self._watched or sign != self._watched[id].sign:
                self._signs[id] = self._signs.get(id, 0) + 1
        return [change for id, slot in live.items() if (change := self._watch(slot, signs[id], now_s))]

    def _knows(self, slot: Slot) -> bool:
        """Whether a kernel is watched in this life: a new one has nothing of the one before, from its first moment."""
        watched = self._watched.get(slot.id)
        return watched is not None and watched.generation == slot.generation

    def _watch(self, slot: Slot, sign: object, now_s: float) -> tuple[int, Health, Still] | None:
        watched = self._watched.get(slot.id)
        before: Health = watched.health if watched is not None else "ok"
        others = sum(count for id, count in self._signs.items() if id != slot.id)
        if watched is None or sign != watched.sign:
            times = self._times.read(slot.cpus)
            watched = self._watched[slot.id] = _Watched(slot.generation, sign, now_s, times, others)
        elif now_s - watched.since_s >= STILL_S:
            watched.still = self._still(slot, watched, others, now_s)
            watched.health = judge(watched.still)
        return (slot.id, watched.health, watched.still) if watched.health != before else None

    def _still(self, slot: Slot, watched: _Watched, others: int, now_s: float) -> Still:
        used = [
            (ran_s - watched.times[cpu][0], waited_s - watched.times[cpu][1])
            for cpu, (ran_s, waited_s) in self._times.read(watched.times).items()
        ]
        return Still(
            still_s=now_s - watched.since_s,
            cpu_s=max((ran_s for ran_s, _ in used), default=0.0),
            waited_s=max((waited_s for _, waited_s in used), default=0.0),
            others_went_on=others - watched.signs_of_all >= _OTHERS_BEATS if len(self._watched) > 1 else None,
            booting=not slot.heartbeat,
        )

    def health(self) -> dict[str, dict[str, Any]]:
        """The health of each kernel that lives, for JSON."""
        return {str(id): told(watched.health, watched.still) for id, watched in self._watched.items()}


def told(health: Health, still: Still) -> dict[str, Any]:
    """A kernel's health as it is recorded."""
    figures = asdict(still)
    return {"health": health} | {name: round(figures[name], 2) for name in ("still_s", "cpu_s", "waited_s")}


def _sign_of(slot: Slot) -> object:
    if slot.heartbeat:
        return slot.generation, slot.heartbeat
    return slot.generation, slot.state, slot.stage, slot.log_head
