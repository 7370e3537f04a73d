# SPDX-License-Identifier: Apache-2.0
"""A system that boots nothing and a workload that does what a test says, for tests of what is around them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import BaseModel
from some_run import manifest

from popcorn.experiment import systems, workloads
from popcorn.experiment.description import Source
from popcorn.experiment.executor import LocalExecutor
from popcorn.experiment.protocols import Booted, Client, Files, Kernel, Needs, Outcome, Setting, Share, State, Workload
from popcorn.experiment.ready import Ready, Wanted, get_ready
from popcorn.experiment.record import begin_record
from popcorn.experiment.runner import take_trials
from popcorn.guest.finished import Finished
from popcorn.machine.machine import Machine
from popcorn.machine.qemu import Accel
from popcorn.run.manifest import Manifest
from popcorn.run.results import Measurement

DESCRIPTION = """\
title = "A test"
machine = "small"
systems = ["one", "other"]
cores = [1, 2]
iterations = 3

[[workloads]]
kind = "scripted"
"""

Script = Callable[[Booted, Sequence[Share]], Outcome]


def fine(booted: Booted, shares: Sequence[Share]) -> Outcome:
    """What a workload does when all is well; its time tells where it ran."""
    cores = sum(share.cores for share in shares)
    return Outcome("ok", (Measurement("time", 1.0 / cores, "s"),), b"it went well\n")


@dataclass
class Stage:
    """What fakes have in common within a test."""

    script: Script = fine
    boots: list[str] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    """Cores of each trial, the untimed ones as well."""
    instructions: int | None = None
    """What each kernel tells that it took."""
    stopped: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class FakeBooted:
    """Fits `protocols.Booted`."""

    kernels: Sequence[Kernel]
    stage: Stage
    cpu_s: float = 0.0
    up: bool = True
    machines: Sequence[Machine] = ()
    switch: str | None = None
    client: Client | None = None
    manifest: Manifest = field(default_factory=manifest)

    def run(self, commands: Mapping[int, Sequence[str]], timeout_s: float) -> dict[int, Finished]:
        raise AssertionError("nothing is run in a fake")

    def put(self, kernel: int, content: bytes, path: str, mode: int = 0o644) -> None:
        raise AssertionError("nothing is put into a fake")

    def host_cpu_s(self) -> float:
        return self.cpu_s

    def interrupt(self) -> None:
        self.stage.stopped.set()

    def alive(self) -> bool:
        return self.up

    def counting(self) -> Callable[[Sequence[int]], int | None]:
        return lambda kernels: self.stage.instructions and self.stage.instructions * len(kernels)


@dataclass(frozen=True)
class FakeSystem:
    """Fits `protocols.System`: a kernel a core, and a state for each number of cores if they must be together."""

    name: str
    setting: Setting
    stage: Stage

    @property
    def title(self) -> str:
        return f"system {self.name}"

    machine_names = ()
    messages = False

    def state(self, cores: int, together: bool) -> State:
        return str(cores) if together else "all"

    def kernels(self, state: State) -> Sequence[Kernel]:
        return [Kernel(id, 1, 1 << 30, f"10.0.0.{id + 1}") for id in range(8)]

    def host_bytes(self, state: State) -> int:
        return 1 << 20

    def estimate_s(self, state: State) -> float:
        return 1.0

    @contextlib.contextmanager
    def boot(
        self, state: State, accel: Accel, files: Files, into: Path, *, counting: bool = False
    ) -> Iterator[FakeBooted]:
        into.mkdir(parents=True)
        self.stage.boots.append(f"{self.name} {state}{' counting' if counting else ''}")
        booted = FakeBooted(self.kernels(state), self.stage)
        yield booted
        booted.up = False


class ScriptedOptions(BaseModel):
    """``kind = "scripted"``; set by `staged`."""

    def workloads(self) -> Sequence[Workload]:
        raise AssertionError("see staged()")


@dataclass(frozen=True)
class ScriptedWorkload:
    """Fits `protocols.Workload`."""

    stage: Stage
    name: str = "scripted"
    group: str = "what a script does"
    parameter: int | None = None
    metric: str = "time"
    unit: str = "s"
    less_is_better: bool = True
    needs: Needs = field(default_factory=lambda: Needs(marks=True))

    def cores(self, wanted: Sequence[int]) -> Sequence[int]:
        return wanted

    def memory_bytes(self, cores: int, total: int) -> int:
        return 1 << 20

    def estimate_s(self, cores: int) -> float:
        return 1.0

    def prepare(self, booted: Booted, cores: Sequence[int]) -> None:
        return

    def measure(self, booted: Booted, shares: Sequence[Share], timeout_s: float) -> Outcome:
        self.stage.taken.append(sum(share.cores for share in shares))
        return self.stage.script(booted, shares)


def staged(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Callable[..., Ready]:
    """Put the fakes in place of the real ones; gives what makes an experiment of them ready."""
    for name in ("one", "other"):
        monkeypatch.setitem(
            systems.SYSTEMS,  # type: ignore[arg-type]
            name,
            lambda setting, name=name: FakeSystem(name, setting, stage),
        )

    class Options(ScriptedOptions):
        def workloads(self) -> Sequence[Workload]:
            return [ScriptedWorkload(stage)]

    monkeypatch.setitem(workloads.KINDS, "scripted", Options)

    def ready(text: str = DESCRIPTION, **wanted: object) -> Ready:
        return get_ready(Source("test", "test.toml", text), Wanted(**wanted))  # type: ignore[arg-type]

    return ready


_CLAIM = """
[[claims]]
text = "The other takes <twice> as long"
ratio = ["other", "one"]
at_least = 1.5
at_most = 2.5
"""


def taken_run(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, *, text: str = DESCRIPTION + _CLAIM, lose: int = 0
) -> Path:
    """A run in which the second system that is booted, whatever its name, is no slower than the first."""
    calls: list[int] = []

    def script(booted: Booted, shares: Sequence[Share]) -> Outcome:
        calls.append(1)
        if len(calls) == lose:
            return Outcome("void", reason="the answer is wrong")
        cores = sum(share.cores for share in shares)
        time_s = (1 + len(calls) % 3 / 100) / cores
        counted = Measurement("count.interrupts", 7.0, "")
        return Outcome("ok", (Measurement("time", time_s, "s"), counted))

    ready = staged(monkeypatch, Stage(script))(text)
    begin_record(ready, "tcg", ["popcorn", "run", "test"], run_dir)
    take_trials(ready, run_dir, LocalExecutor(ready, "tcg", run_dir / "boots", quiet_s=0.0))
    return run_dir
