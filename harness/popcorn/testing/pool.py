# SPDX-License-Identifier: Apache-2.0
"""The machine that tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from popcorn.errors import PopcornError
from popcorn.testing.need import Need, source_of

if TYPE_CHECKING:
    from popcorn.machine.machine import Machine


class Pool:
    """The machine that is up for the tests of this process: one at a time, it takes memory and a core."""

    def __init__(self, new_run_dir: Callable[[], Path]) -> None:
        """
        Args:
            new_run_dir: makes the folder in which a machine is recorded.
        """
        self._new_run_dir = new_run_dir
        self._need: Need | None = None
        self._machine: Machine | None = None
        self.run_dir: Path | None = None
        """Where the latest machine is recorded, also one that did not come up."""

    def lend(self, need: Need) -> Machine:
        """The machine for a test, booted if it is not up or not whole any more.

        Raises:
            PopcornError: as `popcorn.machine.boot.up`.
        """
        if self._machine is not None and (need != self._need or not _whole(self._machine)):
            self.close()
        if self._machine is None:
            self._machine = self._booted(need)
            self._need = need
        return self._machine

    def _booted(self, need: Need) -> Machine:
        from popcorn.config import load_machine
        from popcorn.machine import kvm
        from popcorn.machine.assemble import Choice, for_flavour, kernel_files
        from popcorn.plan import make_plan
        from popcorn.snapshot.bringup import up

        self.run_dir = None
        plan = for_flavour(make_plan(load_machine(need.machine), need.policy), need.flavour)
        other = need.secondary_series
        theirs = None if other == need.series else Choice(other, need.flavour, source_of(other))
        _, files = kernel_files(
            plan, series=need.series, flavour=need.flavour, source=source_of(need.series), secondaries=theirs
        )
        if need.accel == "kvm" and not (verdict := kvm.probe(files.kernel)).usable:
            pytest.skip(f"KVM cannot be used on this host: {verdict.reason}")
        self.run_dir = self._new_run_dir()
        return up(plan, files, name=f"suite-{os.getpid()}", accel=need.accel, tied=True, run_dir=self.run_dir)

    def close(self) -> None:
        """End it."""
        # Even one that will not go is out of the next test's way.
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.down()


def _whole(machine: Machine) -> bool:
    try:
        return machine.alive() and all(kernel.state == "running" for kernel in machine.ps())
    except PopcornError:
        return False
