# SPDX-License-Identifier: Apache-2.0
"""Systems that boot nothing, in the processes of Dask's workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from distributed.diagnostics.plugin import WorkerPlugin
from experiment_fakes import FakeSystem, ScriptedWorkload, Stage, fine
from pydantic import BaseModel

from popcorn.experiment import systems, workloads
from popcorn.experiment.protocols import Booted, Outcome, Share, Workload

_DIES_AT = 4


class Fakes(WorkerPlugin):
    """Puts the fakes in place of the real ones in a worker, also in one that comes later."""

    name = "fakes"

    def __init__(self, folder: Path, *, one_dies: bool) -> None:
        self.folder = folder
        self.one_dies = one_dies

    def setup(self, worker: object) -> None:
        stage = Stage(self._script)
        for name in ("one", "other"):
            systems.SYSTEMS[name] = lambda setting, name=name: FakeSystem(name, setting, stage)  # type: ignore[index]

        class Options(BaseModel):
            def workloads(self) -> Sequence[Workload]:
                return [ScriptedWorkload(stage)]

        workloads.KINDS["scripted"] = Options

    def _script(self, booted: Booted, shares: Sequence[Share]) -> Outcome:
        calls = self.folder / f"calls-{os.getpid()}"
        with calls.open("a") as file:
            file.write("x")
        if self.one_dies and calls.stat().st_size == _DIES_AT:
            try:
                (self.folder / "died").touch(exist_ok=False)
            except FileExistsError:
                return fine(booted, shares)
            os.kill(os.getpid(), signal.SIGKILL)
        return fine(booted, shares)
