# SPDX-License-Identifier: Apache-2.0
"""What is known of a machine that runs, or ran, and asked of it, from outside its kernels."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from popcorn import progress
from popcorn.errors import HostError, MachineLostError
from popcorn.files import write_atomic
from popcorn.machine import registry
from popcorn.machine.control import ask, open_memory, open_region, open_saved_region
from popcorn.machine.layout import NotFormattedError, Region
from popcorn.machine.memory import GuestMemory
from popcorn.machine.qemu import QMP_SOCKET
from popcorn.machine.recorded import plan_of, read_log
from popcorn.machine.registry import NEXT_PLAN_FILE, Record
from popcorn.machine.status import KernelStatus, kernel_statuses
from popcorn.machine.timestamps import Entry
from popcorn.plan import Plan

if TYPE_CHECKING:
    import socket

    from popcorn.machine.qmp import Qmp

_DOWN_S = 15.0


class Handle:
    """On one machine. As a context manager: a tied machine ends with the block, another goes on."""

    def __init__(self, record: Record, lifeline: socket.socket | None = None) -> None:
        """Made by `boot.up` and `attach`.

        Args:
            lifeline: when it closes, the machine ends.
        """
        self.record = record
        self._lifeline = lifeline
        self._memory: GuestMemory | None = None
        self._region: Region | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lifeline is not None:
            self.down()
        else:
            self.close()

    def close(self) -> None:
        """Let go of the machine: an untied one goes on."""
        if self._region is not None:
            self._region.close()
            self._region = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def run_dir(self) -> Path:
        """The folder with what was recorded."""
        return Path(self.record.run_dir)

    @cached_property
    def plan(self) -> Plan:
        """The plan that the machine was booted with, or the last one that it was cut by since."""
        return plan_of(self.run_dir)

    def replan(self, plan: Plan) -> None:
        """From now on this is the machine's plan, for everybody.

        Raises:
            HostError: it cannot be written, or the supervisor does not take it.
            MachineLostError: the machine is gone.
        """
        write_atomic(self.run_dir / NEXT_PLAN_FILE, plan.to_json())
        ask(self.record, "replan")
        self.refresh()

    def alive(self) -> bool:
        """Whether QEMU runs."""
        return registry.is_live(self.name) and self.refresh().status != "dead"

    def refresh(self) -> Record:
        """Read the record again; the plan as well if it is another one now."""
        known = self.record.replanned
        self.record = registry.read_record(self.name) or self.record
        if self.record.replanned != known:
            self.__dict__.pop("plan", None)
        return self.record

    def lost(self) -> MachineLostError:
        """The error that tells why the machine is gone."""
        record = self.refresh()
        return MachineLostError(
            f"the machine {self.name!r} is gone: {record.reason or 'it was ended'}",
            hint=f"what it said last is in {record.run_dir}",
        )

    @property
    def memory(self) -> GuestMemory:
        """Guest-physical memory, read-only, from outside.

        Raises:
            MachineLostError: the machine is gone.
        """
        if self._memory is None:
            self._memory = open_memory(self.record)
        return self._memory

    def region(self) -> Region:
        """The shared region: live, or as it was when the machine died.

        Raises:
            HostError: the kernel has none, or it was not saved.
            MachineLostError: the machine is gone.
        """
        if self._region is None:
            dead = self.record.status == "dead"
            self._region = open_saved_region(self.record) if dead else open_region(self.record, self.memory)
        return self._region

    def tsc_khz(self) -> int | None:
        """Rate of the machine's time stamp counter; None where no kernel says it, or not yet.

        Raises:
            HostError: the shared region was not saved.
            MachineLostError: the machine is gone.
        """
        try:
            return self.region().tsc_khz() if self.record.region_size else None
        except NotFormattedError:
            return None

    def ps(self) -> list[KernelStatus]:
        """The status of each kernel; of a dead machine, the last one."""
        region = self.region() if self.record.region_size else None
        if self.record.status == "dead":
            return kernel_statuses(self.plan, region, None, {}, 0.0, self.tsc_khz())
        answer = ask(self.record, "status")
        if answer["trouble"]:
            progress.note(f"warning: {answer['trouble']}")
        # A machine that was booted by an older Popcorn is told without it.
        health = answer.get("health", {})
        return kernel_statuses(self.plan, region, self.memory, answer["times"], answer["now"], self.tsc_khz(), health)

    def qmp(self) -> Qmp:
        """A new connection to QEMU's monitor, to be closed by the caller.

        Raises:
            MachineLostError: QEMU does not answer.
        """
        from popcorn.machine.qmp import Qmp

        return Qmp(self.record.directory / QMP_SOCKET)

    def log(self, id: int | str) -> Iterator[Entry]:
        """What a kernel printed so far, in lines with host timestamps; ``"serial"`` for the serial port."""
        return read_log(self.run_dir, id)

    def keep(self) -> None:
        """Untie the machine: from now on it is up until `down`."""
        ask(self.record, "keep")
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None

    def down(self) -> None:
        """End the machine and wait until it is gone.

        Raises:
            HostError: it would not go.
        """
        with contextlib.suppress(MachineLostError):
            ask(self.record, "down")
        self.close()
        deadline = time.monotonic() + _DOWN_S
        while registry.is_live(self.name):
            if time.monotonic() > deadline:
                raise HostError(
                    f"the machine {self.name!r} did not end within {_DOWN_S:g} s",
                    hint=f"its supervisor is process {self.record.supervisor_pid}, QEMU {self.record.qemu_pid}",
                )
            time.sleep(0.02)
        registry.forget(self.name)
