# SPDX-License-Identifier: Apache-2.0
"""Results of KUnit from a kernel's console (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_RESULT = re.compile(r"^(?:\[[^\]]*\] ?)?( *)(ok|not ok) \d+ (?:- )?([^#]*?)(?: *# *(.*))?$")


@dataclass(frozen=True)
class Result:
    """One test or suite; ``depth`` 0 is a suite."""

    name: str
    depth: int
    passed: bool
    skipped: bool


def results(lines: Iterable[str]) -> list[Result]:
    """All results in the order they were printed; a suite follows its tests."""
    found = []
    for line in lines:
        match = _RESULT.match(line.rstrip())
        if match:
            remark = (match[4] or "").upper()
            found.append(Result(match[3].strip(), len(match[1]) // 4, match[2] == "ok", remark.startswith("SKIP")))
    return found
