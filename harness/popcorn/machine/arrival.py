# SPDX-License-Identifier: Apache-2.0
"""Waiting until the kernels of a machine are up, by what they do and not by the clock."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from popcorn import cpulist, progress
from popcorn.errors import DiskFullError, GuestError, HostError, NoRoomError
from popcorn.files import write_atomic
from popcorn.machine.control import ask
from popcorn.machine.layout import NotFormattedError, Region, Slot, unknown_slot
from popcorn.machine.limits import require_room_to_record
from popcorn.machine.recorded import recorded_events

if TYPE_CHECKING:
    from popcorn.machine.handle import Handle

REGISTERS_FILE = "registers.txt"
DEFAULT_STALL_S = 120.0
# A kernel whose heart beats but which prints nothing and passes no stage gets so much longer.
_BEATING_FACTOR = 3
_LOOK_S = 0.1
_CALIBRATION_S = 15.0
_NAMED_KERNELS = 4
_TAIL_BYTES = 4096
_LAUNCH_FAILURE = re.compile(rb"popcorn-launch: (\d+) failed: ([^\r\n]*)")
# The last line; what it does after that, if anything, differs.
_PANIC = re.compile(rb"---\[ end Kernel panic - ([^\r\n]*?) \]---")


@dataclass(frozen=True)
class KernelBoot:
    """How a kernel's boot went. Seconds; None where the kernel did not get so far."""

    id: int
    started_s: float | None
    """From QEMU's start until its CPU was started."""
    early_s: float | None
    """From there to its first C code."""
    running_s: float | None
    """From there until it ran init."""
    user_s: float | None
    """From QEMU's start until its userspace was seen to be ready."""
    cpu_s: float
    """CPU time that it has used so far, as it counts itself."""


class StallJudge:
    """Tells when nothing moves any more."""

    def __init__(self, stall_s: float, now: float) -> None:
        self._stall_s = stall_s
        self._words: object = None
        self._beats: object = None
        self._words_at = self._beats_at = now

    def stalled(self, words: object, beats: object, now: float) -> bool:
        """Whether it is time to give up.

        Args:
            words: what changes when a kernel gets on: states, stages, bytes logged.
            beats: what changes while a kernel merely lives.
        """
        if words != self._words:
            self._words, self._words_at, self._beats_at = words, now, now
        if beats != self._beats:
            self._beats, self._beats_at = beats, now
        alive = now - self._beats_at < self._stall_s
        return not alive or now - self._words_at > self._stall_s * _BEATING_FACTOR


def await_kernels(
    machine: Handle,
    ids: Iterable[int] | None = None,
    *,
    stall_s: float = DEFAULT_STALL_S,
    launched: bool = False,
) -> None:
    """Wait until kernels have told that their userspace is ready.

    Args:
        ids: which; all of the plan if not given.
        stall_s: give up when none of them moved for so long.
        launched: they were, so that what failed before does not count.

    Raises:
        GuestError: one got stuck, died or could not be launched.
        MachineLostError: QEMU ended.
        DiskFullError: there is no room for what they say.
        HostError: it cannot be recorded for another reason.
    """
    wanted = list(ids) if ids is not None else [partition.id for partition in machine.plan.partitions]
    region = machine.region()
    judge = StallJudge(stall_s, time.monotonic())
    with progress.step(f"booting {len(wanted)} kernel{'s' if len(wanted) > 1 else ''}") as step:
        while True:
            slots = _slots(region, wanted)
            pending = [slot for slot in slots if not is_up(region, slot)]
            step.update(f"{len(wanted) - len(pending)}/{len(wanted)} up")
            if not pending:
                # The recorder looks once more, so that the figures are complete.
                _require_recorder(machine, str(ask(machine.record, "status")["trouble"]))
                return
            if not machine.alive():
                raise machine.lost()
            _raise_for_failures(machine, region, pending, launched)
            serial_size = _size(machine.run_dir / "serial.log")
            words = [(slot.state, slot.stage, slot.log_head) for slot in slots], serial_size
            if judge.stalled(words, [slot.heartbeat for slot in pending], time.monotonic()):
                raise _stuck(machine, region, pending, len(wanted), stall_s)
            time.sleep(_LOOK_S)


def await_sshd(machine: Handle, *, stall_s: float = DEFAULT_STALL_S) -> None:
    """Wait until the primary's sshd answers: for kernels without a shared region. Errors as for `await_kernels`."""
    judge = StallJudge(stall_s, time.monotonic())
    log = machine.run_dir / "serial.log"
    with progress.step("booting the kernel"):
        while not _sshd_answers(machine.record.ssh_port):
            if not machine.alive():
                raise machine.lost()
            if judge.stalled(_size(log), None, time.monotonic()):
                raise GuestError(
                    f"the kernel got stuck: nothing on its serial port for {stall_s:g} s, and no sshd; "
                    f"its last line: {_last_line(_tail(log))!r}",
                    hint=f"the whole output is in {log}",
                )
            time.sleep(_LOOK_S)


def is_up(region: Region, slot: Slot) -> bool:
    """Whether a kernel's userspace is ready and it has not ended since."""
    return slot.stage_number >= region.layout.stage_number("user") and not slot.ended


def boot_times(machine: Handle) -> list[KernelBoot]:
    """How long each kernel of the plan took, from its slot and the recorder's events.

    Of a machine that goes on from a snapshot: what they took when the saved one was booted.
    """
    region = machine.region()
    khz = await_tsc_khz(machine)
    ready: dict[object, float] = {}
    for event in recorded_events(machine.run_dir):
        if event.get("stage") == "user":
            ready[event.get("kernel")] = float(str(event["since_start_s"]))
    slots = _slots(region, [partition.id for partition in machine.plan.partitions])
    return [_kernel_boot(slot, khz, ready.get(slot.id)) for slot in slots]


def await_tsc_khz(machine: Handle) -> int | None:
    """The rate of the time stamp counter, once the primary knows it for good; None if that takes too long."""
    # The primary refines it for a second or two: a fast boot is over before that.
    deadline = time.monotonic() + _CALIBRATION_S
    while (khz := machine.tsc_khz()) is None and time.monotonic() < deadline and machine.alive():
        time.sleep(_LOOK_S)
    return khz


def _kernel_boot(slot: Slot, khz: int | None, user_s: float | None) -> KernelBoot:
    return KernelBoot(
        id=slot.id,
        started_s=_between(0, slot.started_tsc, khz),
        early_s=_between(slot.started_tsc, slot.early_tsc, khz) if slot.started_tsc else None,
        running_s=_between(slot.early_tsc, slot.running_tsc, khz),
        user_s=user_s,
        cpu_s=round(slot.cpu_ns / 1e9, 3),
    )


def _between(begin_tsc: int, end_tsc: int, khz: int | None) -> float | None:
    return round((end_tsc - begin_tsc) / (khz * 1000), 3) if khz and end_tsc > begin_tsc else None


def _slots(region: Region, ids: Sequence[int]) -> list[Slot]:
    try:
        region.header()
    except NotFormattedError:
        return [unknown_slot(id) for id in ids]
    return [region.slot(id) for id in ids]


def _require_recorder(machine: Handle, trouble: str) -> None:
    if trouble:
        try:
            require_room_to_record(machine.run_dir)
        except NoRoomError as error:
            raise DiskFullError(error.message, hint=error.hint) from error
        raise HostError(
            f"the machine {machine.name!r} is not recorded: {trouble}",
            hint=f"its supervisor's log is {machine.run_dir / 'supervisor.log'}",
        )


def _raise_for_failures(machine: Handle, region: Region, pending: Sequence[Slot], launched: bool) -> None:
    serial = machine.run_dir / "serial.log"
    if panic := _PANIC.search(_tail(serial)):
        raise GuestError(
            f"the primary panicked while it booted: {panic[1].decode('utf-8', 'replace')}",
            hint=f"the whole output is in {serial}",
        )
    for slot in pending:
        if slot.ended:
            raise GuestError(
                f"kernel {slot.id} ended while it booted: {slot.state} at stage {slot.stage}"
                + (f", {slot.reason}" if slot.reason else "")
                + _said(region, slot.id),
                hint=f"its console: `popcorn log {slot.id} --name {machine.name}` ({machine.run_dir / 'console'})",
            )
    waiting = set() if launched else {slot.id for slot in pending}
    log = machine.run_dir / "console" / "0.log"
    for id, cause in _LAUNCH_FAILURE.findall(_tail(log, 1 << 16)):
        if int(id) in waiting:
            raise GuestError(
                f"kernel {int(id)} could not be launched: {cause.decode('utf-8', 'replace')}",
                hint=f"what the primary said: `popcorn log 0 --name {machine.name}` ({log})",
            )


def _stuck(machine: Handle, region: Region, pending: Sequence[Slot], total: int, stall_s: float) -> GuestError:
    if not region.formatted():
        log = machine.run_dir / "serial.log"
        return GuestError(
            f"the primary got stuck before it made the shared region: nothing moved for {stall_s:g} s; "
            f"its last line on the serial port: {_last_line(_tail(log))!r}",
            hint=f"the whole output is in {log}",
        )
    named = "; ".join(
        f"kernel {slot.id} is {slot.state} at stage {slot.stage}{_said(region, slot.id)}"
        for slot in pending[:_NAMED_KERNELS]
    )
    _save_registers(machine, pending)
    rest = pending[_NAMED_KERNELS:]
    others = f"; and kernels {cpulist.format(slot.id for slot in rest)}" if rest else ""
    return GuestError(
        f"{len(pending)} of {total} kernels did not come up, and nothing moved for {stall_s:g} s: {named}{others}",
        hint=f"consoles, events and the CPUs' {REGISTERS_FILE} are in {machine.run_dir}; "
        f"`popcorn log ID --name {machine.name}` shows the consoles",
    )


def _save_registers(machine: Handle, stuck: Sequence[Slot]) -> None:
    """What the CPUs of stuck kernels do, from QEMU's monitor: the machine may not live on to be asked."""
    partitions = [machine.plan.partition(slot.id) for slot in stuck]
    with contextlib.suppress(HostError), machine.qmp() as qmp:
        told = [qmp.monitor("info registers -a")]
        for partition in partitions:
            for cpu, apic_id in zip(partition.cpus, partition.apic_ids, strict=True):
                told.append(f"CPU {cpu}, kernel {partition.id}\n{qmp.monitor(f'info lapic {apic_id}')}")
        write_atomic(machine.run_dir / REGISTERS_FILE, "\n".join(told))


def _said(region: Region, id: int) -> str:
    try:
        line = _last_line(region.log_tail(id))
    except NotFormattedError:
        line = ""
    return f", last line {line!r}" if line else ", it printed nothing"


def _last_line(data: bytes) -> str:
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else ""


def _tail(path: Path, nr_bytes: int = _TAIL_BYTES) -> bytes:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - nr_bytes))
            return log.read()
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sshd_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4).startswith(b"SSH-")
    except OSError:
        return False
