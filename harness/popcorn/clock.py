# SPDX-License-Identifier: Apache-2.0
"""Time that goes on steadily though somebody sets the host's clock.

What one run recorded is compared with itself: how long a boot took, how long a heart has been still. So all its time
stamps go by one clock, which is set from the host's when the run begins and never again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


def uptime_s() -> float:
    """Seconds since the host booted, those that it slept included; the same for all processes of the host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class RunClock:
    """The clock of one run."""

    set_to_s: float
    """The host's clock when the run began, Unix time."""
    uptime_s: float
    """The host's uptime at the same moment."""

    @classmethod
    def set(cls) -> RunClock:
        """A clock that is right now."""
        return cls(time.time(), uptime_s())

    def now(self) -> float:
        """Unix time as it would be had nobody set the host's clock since."""
        return self.set_to_s + uptime_s() - self.uptime_s
