# SPDX-License-Identifier: Apache-2.0
"""Starting a command in several kernels at the same time, with what the kernels counted meanwhile.

Kernels are reached one after the other, and a short benchmark would be over in the first before it began in the
last. So each waits for an agreed time, by its own clock and what that is off the host's.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from popcorn.errors import GuestError
from popcorn.experiment import counters
from popcorn.experiment.protocols import Booted, Share
from popcorn.guest.finished import Finished
from popcorn.guest.several import UNREACHED
from popcorn.machine.instructions import MARK_PROGRAM
from popcorn.run.results import Measurement

_SCRIPT = Path(__file__).parent / "launch.sh"
_CLOCK_FILE = "/tmp/popcorn-clock"
_CLOCK_LOOKS = 3
_LOOK_S = 60.0
_LATE_S = 0.05
_TRIES = 4
_OVERHEAD_S = 30.0
_PART = "@@@ "
_MARK = f"[ ! -x {MARK_PROGRAM} ] || {MARK_PROGRAM}"


@dataclass(frozen=True)
class Process:
    """One of the processes that were started, and how it ended."""

    kernel: int
    copy: int
    done: Finished


@dataclass(frozen=True)
class Ended:
    """All processes of a launch."""

    processes: tuple[Process, ...]
    counted: tuple[Measurement, ...]
    """What kernels counted, and ``wall``: from the first process's start to the last one's end, as the kernel with
    the longest time saw it."""
    raw: bytes
    late_s: float
    """How much after the agreed time the last kernel was ready."""
    looks: tuple[tuple[dict[str, int], dict[str, int]], ...] = ()
    """What each kernel counted before and after, if all told."""


class Launcher:
    """Starts processes in the kernels of one booted system."""

    _of: ClassVar[weakref.WeakKeyDictionary[Booted, Launcher]] = weakref.WeakKeyDictionary()

    def __init__(self, booted: Booted) -> None:
        self._booted = booted
        self._known: set[int] = set()
        self._lead_s = 0.3

    @classmethod
    def of(cls, booted: Booted) -> Launcher:
        """The one of a booted system: clocks are looked at once."""
        return cls._of.setdefault(booted, cls(booted))

    def learn_clocks(self, kernels: Sequence[int]) -> None:
        """Tell kernels what the host's clock is ahead of their own.

        Raises:
            GuestError: one does not answer.
        """
        for kernel in kernels:
            if kernel not in self._known:
                self._booted.put(kernel, f"{self._ahead(kernel)}\n".encode(), _CLOCK_FILE)
                self._known.add(kernel)

    def run(self, shares: Sequence[Share], argv: Sequence[str], *, per_core: bool, timeout_s: float) -> Ended:
        """Run a command in kernels at the same time, to the end of all.

        Args:
            per_core: a process for each core; else one for each kernel.
            timeout_s: for each process.

        Raises:
            GuestError: a kernel cannot be reached, or they could not be started together.
            MachineLostError: a machine is gone.
        """
        together = len(shares) > 1
        if together:
            self.learn_clocks([share.kernel.id for share in shares])
        for _ in range(_TRIES):
            start = _hundredths(time.monotonic() + self._lead_s) if together else 0
            commands = {share.kernel.id: _command(share.cores if per_core else 1, start, argv) for share in shares}
            ended = read_answers(self._booted.run(commands, timeout_s + _OVERHEAD_S), argv, self._booted.switch)
            if ended.late_s <= _LATE_S:
                return ended
            self._lead_s = self._lead_s * 1.5 + ended.late_s
        raise GuestError(
            f"{len(shares)} kernels could not be started together: the last was {ended.late_s:.2f} s late "
            f"with {self._lead_s:.1f} s to get ready",
            hint="the host is too busy; end other work on it",
        )

    def run_first(self, shares: Sequence[Share], argv: Sequence[str], *, timeout_s: float) -> Ended:
        """Run one command in the first of some kernels, which starts others in the rest; counted in all.

        Errors as for `run`.
        """
        rest = [share.kernel.id for share in shares[1:]]
        before = self.look(rest)
        ended = self.run(shares[:1], argv, per_core=False, timeout_s=timeout_s)
        if not ended.looks:
            return ended
        looks = [*ended.looks, *zip(before, self.look(rest, over=True), strict=True)]
        wall = [one for one in ended.counted if one.metric == "wall"]
        return replace(ended, counted=(*counters.differences(looks), *wall))

    def look(self, kernels: Sequence[int], *, over: bool = False) -> list[dict[str, int]]:
        """What kernels have counted so far. If instructions are counted, they mark the moment as well.

        Args:
            over: whether the workload is; else it is about to begin.

        Raises:
            GuestError: one cannot be reached.
        """
        if not kernels:
            return []
        looks = "; ".join(f"echo '{counters.FRAME}{name}'; cat {name} 2>/dev/null" for name in counters.FILES)
        # What the look itself takes is not between the two marks.
        script = f"{_MARK}; {looks}" if over else f"{looks}; {_MARK}"
        answers = self._booted.run({kernel: ["sh", "-c", script] for kernel in kernels}, _LOOK_S)
        for kernel, done in answers.items():
            if done.status == UNREACHED:
                raise GuestError(f"kernel {kernel} cannot be reached: {done.stderr_text.strip()}")
        return [counters.look(answers[kernel].stdout_text, self._booted.switch) for kernel in kernels]

    def _ahead(self, kernel: int) -> int:
        """Hundredths of a second; from the look that took the least time."""
        looks = []
        for _ in range(_CLOCK_LOOKS):
            before = time.monotonic()
            done = self._booted.run({kernel: ["cat", "/proc/uptime"]}, _LOOK_S)[kernel]
            after = time.monotonic()
            try:
                uptime = float(done.stdout_text.split()[0])
            except (IndexError, ValueError) as error:
                said = done.stderr_text.strip() or "it said nothing"
                raise GuestError(f"kernel {kernel} does not tell its uptime: {said}") from error
            looks.append((after - before, statistics.mean((before, after)) - uptime))
        return _hundredths(min(looks)[1])


def _hundredths(seconds: float) -> int:
    return round(seconds * 100)


def _command(copies: int, start: int, argv: Sequence[str]) -> list[str]:
    script = "\n".join(
        line for line in _SCRIPT.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    return ["sh", "-c", script, "sh", str(copies), str(start), " ".join(counters.FILES), *argv]


def read_answers(answers: Mapping[int, Finished], argv: Sequence[str], switch: str | None) -> Ended:
    """What the kernels told.

    Raises:
        GuestError: one cannot be reached.
    """
    processes: list[Process] = []
    looks: list[tuple[dict[str, int], dict[str, int]]] = []
    raw: list[bytes] = []
    late = ran = 0
    for kernel, done in answers.items():
        raw.append(f"### kernel {kernel}: {' '.join(argv)}: status {done.status}\n".encode())
        raw += [done.stdout, done.stderr]
        if done.status == UNREACHED:
            raise GuestError(f"kernel {kernel} cannot be reached: {done.stderr_text.strip()}")
        parts = _parts(done.stdout_text)
        if "end" not in parts:
            # Ended, or given up, in the middle: the whole kernel's share counts as one process that failed.
            processes.append(Process(kernel, 0, Finished(tuple(argv), done.status or 1, b"", done.stderr)))
            continue
        late, ran = max(late, int(parts["late"][0])), max(ran, int(parts["ran"][0]))
        copy = 0
        while f"status {copy}" in parts:
            finished = Finished(
                tuple(argv),
                int(parts[f"status {copy}"][0]),
                parts[f"stdout {copy}"][1].encode(),
                parts[f"stderr {copy}"][1].encode(),
            )
            processes.append(Process(kernel, copy, finished))
            copy += 1
        before, after = (counters.look(parts[name][1], switch) for name in ("before", "after"))
        cost_before, cost_after = map(counters.cost, parts["cost"][1].splitlines()[:2])
        looks.append((before | cost_before, after | cost_after))
    whole = len(looks) == len(answers)
    counted = [*counters.differences(looks), Measurement("wall", ran / 100, "s")] if whole else []
    return Ended(tuple(processes), tuple(counted), b"".join(raw), late / 100, tuple(looks) if whole else ())


def _parts(text: str) -> dict[str, tuple[str, str]]:
    """``NAME`` or ``NAME NUMBER`` to (the last word of its line, what follows)."""
    parts: dict[str, tuple[str, str]] = {}
    for piece in f"\n{text}".split(f"\n{_PART}")[1:]:
        head, _, body = piece.partition("\n")
        words = head.split()
        numbered = words[0] in ("status", "stdout", "stderr")
        parts[" ".join(words[: 1 + numbered])] = (words[-1], body)
    return parts
