# SPDX-License-Identifier: Apache-2.0
"""Follows all kernels of a machine from outside: their consoles and what their slots say.

The recorder only reads the shared region, through the host's own mapping, so that it
needs nothing from the guest and goes on after it has died. In the run's folder it writes

    console/ID.log        a kernel's console, byte for byte
    console/ID.jsonl      the same in lines with host timestamps (see `timestamps`)
    console/serial.jsonl  the primary's serial port, likewise (QEMU writes serial.log)
    events.jsonl          each change of a kernel's state, stage, release or reason
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from popcorn.machine.layout import NotFormattedError, Region, Slot
from popcorn.machine.timestamps import Entry, LineSplitter

# A prompt has no newline; it is shown when nothing followed for so long.
_PROMPT_S = 0.5
_SERIAL_CHUNK_BYTES = 1 << 20


@dataclass
class Seen:
    """When (Unix time, by the run's clock) a kernel was last seen to change."""

    state_at: float = 0.0
    stage_at: float = 0.0
    heartbeat_at: float = 0.0
    log_at: float = 0.0
    user_at: float = 0.0


class _Console:
    """The files of one console; opened with its first byte."""

    def __init__(self, directory: Path, name: str, *, raw: bool) -> None:
        self._directory = directory
        self._name = name
        self._with_raw = raw
        self._raw: FileIO | None = None
        self._stamped: FileIO | None = None
        self._splitter = LineSplitter()

    def write(self, data: bytes, now: float) -> None:
        if not data:
            return
        self._open()
        if self._raw is not None:
            self._raw.write(data)
        self._put(self._splitter.feed(data, now))

    def lose(self, nr_bytes: int, now: float) -> None:
        self._open()
        text = f"[{nr_bytes} bytes were overwritten before they were read]"
        if self._raw is not None:
            self._raw.write(f"\n{text}\n".encode())
        self._put([*self._splitter.flush(), Entry(now, text, lost=nr_bytes)])

    def tick(self, now: float) -> None:
        since = self._splitter.pending_since
        if since is not None and now - since > _PROMPT_S:
            self._put(self._splitter.flush())

    def flush(self) -> None:
        self._put(self._splitter.flush())

    def close(self) -> None:
        self.flush()
        for file in (self._raw, self._stamped):
            if file is not None:
                file.close()

    def _open(self) -> None:
        if self._stamped is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._stamped = FileIO(self._directory / f"{self._name}.jsonl", "a")
            if self._with_raw:
                self._raw = FileIO(self._directory / f"{self._name}.log", "a")

    def _put(self, entries: list[Entry]) -> None:
        if entries and self._stamped is not None:
            self._stamped.write("".join(entry.to_json() + "\n" for entry in entries).encode())


class Recorder:
    """Writes down what the kernels of one machine do. `poll` it until the machine has ended, then `close` it."""

    def __init__(
        self, region: Region | None, run_dir: Path, *, clock: Callable[[], float] = time.time, begin: float = 0.0
    ) -> None:
        """
        Args:
            region: the shared region, formatted or not; None records the serial port alone.
            clock: the run's; it must not jump when somebody sets the host's.
            begin: when QEMU was started, by that clock; events tell the seconds since.
        """
        self.region = region
        self.seen: dict[int, Seen] = {}
        self._clock = clock
        self._begin = begin or clock()
        self._run_dir = run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        self._events = FileIO(run_dir / "events.jsonl", "a")
        self._serial_path = run_dir / "serial.log"
        self._serial_offset = 0
        self._serial = _Console(run_dir / "console", "serial", raw=False)
        self._consoles: dict[int, _Console] = {}
        self._tails: dict[int, int] = {}
        self._slots: dict[int, Slot] = {}
        self._raw_slots: dict[int, bytes] = {}
        self._formatted = False

    def poll(self) -> bool:
        """Look once; tell whether a console, a state or a stage moved.

        Raises:
            OSError: a file could not be written.
        """
        now = self._clock()
        moved = self._poll_serial(now)
        if self.region is not None:
            moved |= self._poll_region(self.region, now)
        for console in (self._serial, *self._consoles.values()):
            console.tick(now)
        return moved

    def flush(self) -> None:
        """Write what is left of lines that have not ended."""
        for console in (self._serial, *self._consoles.values()):
            console.flush()

    def go_on(self, times: Mapping[str, Mapping[str, float]], seen_at: float) -> None:
        """Take up what another recorder left, before the machine, which was saved then, runs again.

        Its files lie in the run's folder already, and its region has been restored.

        Args:
            times: what it had seen (`times`).
            seen_at: when it was asked, in Unix time.
        """
        if self._serial_path.is_file():
            self._serial_offset = self._serial_path.stat().st_size
        if self.region is not None:
            self._tails = dict(enumerate(self.region.log_heads()))
            self._raw_slots = {id: self.region.raw_slot(id) for id in self._tails}
            self._slots = {id: self.region.slot(id) for id in self._tails}
            self._formatted = True
        slept_s = self._clock() - seen_at
        for id, fields in times.items():
            seen = Seen(**fields)
            # A heart does not age while the machine does not run.
            seen.heartbeat_at += slept_s if seen.heartbeat_at else 0.0
            self.seen[int(id)] = seen

    def close(self) -> None:
        """Write what is left and close the files. The region is the caller's."""
        for console in (self._serial, *self._consoles.values()):
            console.close()
        self._events.close()

    def event(self, name: str, **fields: Any) -> None:
        """Add an event to the run's list."""
        now = self._clock()
        entry = {"t": round(now, 3), "since_start_s": round(now - self._begin, 3), "event": name, **fields}
        self._events.write((json.dumps(entry) + "\n").encode())

    @property
    def slots(self) -> Mapping[int, Slot]:
        """What each kernel's slot said last."""
        return self._slots

    def times(self) -> dict[str, dict[str, float]]:
        """`Seen` of each kernel, for JSON."""
        return {str(id): asdict(seen) for id, seen in self.seen.items()}

    def _poll_serial(self, now: float) -> bool:
        try:
            with self._serial_path.open("rb") as log:
                log.seek(self._serial_offset)
                data = log.read(_SERIAL_CHUNK_BYTES)
        except FileNotFoundError:
            return False
        self._serial_offset += len(data)
        self._serial.write(data, now)
        return bool(data)

    def _poll_region(self, region: Region, now: float) -> bool:
        try:
            heads = region.log_heads()
        except NotFormattedError:
            return False
        moved = False
        if not self._formatted:
            self._formatted = moved = True
            self.event("formatted", nr_kernels=len(heads))
        for id, head in enumerate(heads):
            if head != self._tails.get(id, 0):
                self._follow(region, id, head, now)
                moved = True
            raw = region.raw_slot(id)
            if raw != self._raw_slots.get(id):
                self._raw_slots[id] = raw
                moved |= self._compare(region.slot(id), now)
        return moved

    def _follow(self, region: Region, id: int, head: int, now: float) -> None:
        console = self._consoles.get(id)
        if console is None:
            console = self._consoles[id] = _Console(self._run_dir / "console", str(id), raw=True)
        tail = self._tails.get(id, 0)
        if head < tail:
            self.event("console restarted", kernel=id)
            tail = 0
        data = region.ring_bytes(id, tail, head)
        # The writer may have gone round while we copied, or be about to.
        spoiled = max(0, min(region.log_oldest(id), head) - (head - len(data)))
        lost = head - tail - len(data) + spoiled
        if lost > 0:
            console.lose(lost, now)
        console.write(data[spoiled:], now)
        self._tails[id] = head
        self._seen(id).log_at = now

    def _compare(self, slot: Slot, now: float) -> bool:
        before = self._slots.get(slot.id)
        self._slots[slot.id] = slot
        if before is None and slot.state == "none" and not slot.generation:
            return False
        seen = self._seen(slot.id)
        fields = {}
        for name in ("state", "stage", "generation", "release", "reason"):
            value = getattr(slot, name)
            if (value != getattr(before, name)) if before is not None else value:
                fields[name] = value
        if "state" in fields:
            seen.state_at = now
        if "stage" in fields:
            seen.stage_at = now
            if slot.stage == "user":
                seen.user_at = now
        if before is None or slot.heartbeat != before.heartbeat:
            seen.heartbeat_at = now
        if fields:
            self.event("kernel", kernel=slot.id, **fields)
        return bool(fields)

    def _seen(self, id: int) -> Seen:
        return self.seen.setdefault(id, Seen())
