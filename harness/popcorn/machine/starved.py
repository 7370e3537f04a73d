# SPDX-License-Identifier: Apache-2.0
"""Telling that a QEMU ended, or did not begin, for lack of the host's memory."""

from __future__ import annotations

import re
import signal
from pathlib import Path

_REFUSED = "Cannot allocate memory"  # strerror(ENOMEM), as QEMU repeats it
_REMEDY = (
    "the host has too little memory for QEMU, or a limit is in force (`ulimit -v`): end something, or use a smaller "
    "--machine or fewer kernels"
)
OUT_OF_MEMORY = "the host ran out of memory"


def oom_kills() -> int:
    """How many processes the host killed since its boot because it ran out of memory (proc(5), vmstat)."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def why_killed(number: int, kills_before: int) -> str:
    """What is known of the cause of a signal that ended QEMU, to follow its name."""
    return f": {OUT_OF_MEMORY}" if number == signal.SIGKILL and oom_kills() > kills_before else ""


def remedy(reason: str) -> str:
    """What helps against the reason why QEMU ended, if that is lack of memory."""
    return _REMEDY if _REFUSED in reason or OUT_OF_MEMORY in reason else ""
