# SPDX-License-Identifier: Apache-2.0
"""What can become of a kernel."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What became of a kernel; the value is what `popcorn diagnose` prints."""

    FINE = "fine"
    BOOTING = "booting"
    PARKED = "parked"
    """It ended itself in good order: halt, restart, power off."""
    STOPPED = "stopped"
    """Another kernel took its CPUs away."""
    SLOW = "slow"
    """The host gave it too little CPU time to be judged by the clock."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "bug"
    WARNING = "warning"
    KASAN = "kasan"
    UBSAN = "ubsan"
    LOCKDEP = "lockdep"
    HARD_LOCKUP = "hard lockup"
    SOFT_LOCKUP = "soft lockup"
    RCU_STALL = "rcu stall"
    HUNG_TASK = "hung task"
    OUT_OF_MEMORY = "out of memory"
    NEVER_STARTED = "never started"
    HUNG = "hung"
    """Busy and getting nowhere."""
    SILENT = "silent"
    """It stands still, or has gone, and said nothing."""


IN_ORDER = frozenset({Kind.FINE, Kind.BOOTING, Kind.PARKED, Kind.STOPPED, Kind.SLOW})
"""No fault of the kernel."""

STALLS = (Kind.HARD_LOCKUP, Kind.SOFT_LOCKUP, Kind.RCU_STALL, Kind.HUNG_TASK)
"""Told by a clock, the surest first: a slow host is enough for any of them."""
