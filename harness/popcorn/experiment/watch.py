# SPDX-License-Identifier: Apache-2.0
"""Running a trial under supervision: one that gets nowhere is ended.

A workload hangs when it takes longer than it may, or when its system uses for a while no more CPU time than it did
without it: all processes wait, and nobody will wake them. An emulated CPU that is merely slow uses plenty.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from popcorn.errors import GuestError, MachineLostError, PopcornError
from popcorn.experiment.protocols import Booted, Outcome, Share, Workload
from popcorn.guest.ssh import TimedOutError

STALL_S = 60.0
_LOOK_S = 1.0
_BUSY_SHARE = 0.02
_IDLE_MARGIN = 1.5
_LOOKS = 8
_AT_REST = 0.1
# CPUs. A system that works keeps more than that busy, if only one of its own.
_MOST_IDLE = 0.5
_GRACE_S = 60.0
_STOPPED_S = 10.0


@dataclass
class IdleJudge:
    """Tells when a system has been idle for too long; CPU time and clock in seconds."""

    stall_s: float
    cpu_s: float
    since: float
    idle_share: float = 0.0
    """CPUs that it takes when it has nothing to do: its timers, and the emulator's."""

    def forget(self, seconds: float) -> None:
        """Leave time out in which nobody looked."""
        self.since += seconds

    def idle(self, cpu_s: float, now: float) -> bool:
        """Whether it has worked less than a fiftieth of the time for as long as it may."""
        if cpu_s - self.cpu_s > self.idle_share * (now - self.since) * _IDLE_MARGIN + _BUSY_SHARE * self.stall_s:
            self.cpu_s, self.since = cpu_s, now
        return now - self.since > self.stall_s


def idle_share(booted: Booted, seconds: float) -> float:
    """How many CPUs' time a system takes that was given nothing to do.

    One that has just come up may have something to do of its own, and with that as the measure every workload would
    look idle. So it is looked at until two looks agree, and the least counts.

    Args:
        seconds: of the first two looks.
    """
    shares: list[float] = []
    while len(shares) < 2 or (len(shares) < _LOOKS and abs(shares[-1] - shares[-2]) > _AT_REST):
        before, began = booted.host_cpu_s(), time.monotonic()
        time.sleep(seconds / 2)
        elapsed = time.monotonic() - began
        shares.append((booted.host_cpu_s() - before) / elapsed if elapsed > 0 else 0.0)
    return min(*shares, _MOST_IDLE)


def supervised(
    workload: Workload,
    booted: Booted,
    shares: Sequence[Share],
    *,
    timeout_s: float,
    stall_s: float = STALL_S,
    idle_share: float = 0.0,
) -> Outcome:
    """A trial's outcome, whatever becomes of it.

    Args:
        timeout_s: it hangs after this, however busy it is.
        stall_s: and after so long without work.
        idle_share: CPUs that the system takes without work.
    """
    answer: list[Outcome | BaseException] = []

    def work() -> None:
        try:
            answer.append(workload.measure(booted, shares, timeout_s))
        except BaseException as error:
            answer.append(error)

    thread = threading.Thread(target=work, daemon=True, name="trial")
    began = time.monotonic()
    judge = IdleJudge(stall_s, booted.host_cpu_s(), began, idle_share)
    thread.start()
    why = ""
    try:
        while thread.is_alive() and not why:
            before = time.monotonic()
            thread.join(_LOOK_S)
            now = time.monotonic()
            if now - before > _STOPPED_S:
                # We were stopped, and perhaps the machines as well.
                began += now - before
                judge.forget(now - before)
            cpu_s = booted.host_cpu_s()
            if judge.idle(cpu_s, now):
                why = (
                    f"the system was idle for {stall_s:g} s: it took {cpu_s - judge.cpu_s:.1f} s of CPU time, "
                    f"and {idle_share * stall_s:.1f} s is what it takes without work"
                )
            elif now - began > timeout_s + _GRACE_S:
                why = f"it did not end within {timeout_s:g} s"
    except BaseException:
        # An interrupt: what runs is cut off with its machine.
        booted.interrupt()
        raise
    if thread.is_alive():
        booted.interrupt()
        thread.join(_GRACE_S)
        return Outcome("hung", reason=why)
    return _settled(answer[0], booted)


def _settled(answer: Outcome | BaseException, booted: Booted) -> Outcome:
    if isinstance(answer, Outcome):
        return answer
    if isinstance(answer, TimedOutError):
        return Outcome("hung", reason=str(answer))
    if isinstance(answer, MachineLostError):
        return Outcome("killed", reason=str(answer))
    if isinstance(answer, GuestError):
        return Outcome("failed" if booted.alive() else "killed", reason=str(answer))
    if isinstance(answer, PopcornError) and not booted.alive():
        return Outcome("killed", reason=str(answer))
    raise answer
