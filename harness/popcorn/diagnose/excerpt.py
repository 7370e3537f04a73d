# SPDX-License-Identifier: Apache-2.0
"""The few lines of a report that tell what happened."""

from __future__ import annotations

import re
from collections.abc import Sequence

from popcorn.diagnose.frames import frame_function, is_machinery

_FRAMES = 10
# Behind the report's first line; registers, code bytes, stacks and statistics are left out.
_TELLS = re.compile(
    r"(?:CPU: \d+|Pid: ).*comm\b|RIP: 0010:|Workqueue: |#PF: (?!error)|(?:Oops|Kernel panic)|.*: [0-9a-f]{4} \[#\d+\]"
    r"|(?:Out of memory|Memory cgroup out of memory|Killed process)|(?:Read|Write) of size|.*\btask:\S+ +state:"
    r"|.*(?:is trying to (?:acquire|release) lock|but task is already holding lock|which lock already depends)"
    r"|.*at: \S+\+0x|.*stalls? on|\s*\(?(?:detected by|t=)|kernel BUG at|NMI backtrace for cpu",
    re.IGNORECASE,
)


def essence(lines: Sequence[str]) -> list[str]:
    """What to show of a report to who has little room: how it begins, where it was, and who called.

    Args:
        lines: as `Line.shown` gives them.
    """
    kept: list[str] = []
    frames = 0
    for number, line in enumerate(lines):
        text = line.partition("] ")[2] if line.startswith("[") else line
        function = frame_function(text)
        if number == 0 or (function is None and _TELLS.match(text)):
            kept.append(line)
        elif function is not None and not is_machinery(function) and frames < _FRAMES:
            frames += 1
            kept.append(line)
    return kept
