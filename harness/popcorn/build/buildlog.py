# SPDX-License-Identifier: Apache-2.0
"""What went wrong in a build, from its log: the first error, not the last five hundred lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTEXT_LINES = 10

# Ordered by how close to the cause they are: a compiler's word is worth more than make's.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(?P<file>[^\s:]+):(?P<line>\d+)(?::\d+)?: (?:fatal )?error: (?P<said>.+)$",
        r"^(?:\S*ld(?:\.bfd)?: )?(?P<file>[^\s:]+)(?::(?P<line>\d+)|:\([^)]*\))?: (?P<said>undefined reference to .+)$",
        r"^(?P<file>[^\s:]+):(?P<line>\d+): (?P<said>(?:Error|syntax error).*)$",
        r"^(?:\S*ld(?:\.bfd)?|cc1|collect2|as|objtool|\S*objcopy): (?:error: |fatal error: )?(?P<said>.+)$",
        r"^(?P<said>\S+: (?:line )?\d+: .+: not found)$",
        r"^(?P<said>ERROR: .+)$",
        r"^make(?:\[\d+\])?: \*\*\* (?P<said>No rule to make target .+)$",
        r"^make(?:\[\d+\])?: \*\*\* \[(?P<file>[^:\]]+):(?P<line>\d+): (?P<said>.+)$",
        r"^make(?:\[\d+\])?: \*\*\* (?P<said>.+)$",
    )
)


@dataclass(frozen=True)
class FirstError:
    """Where and what, and the lines around it."""

    file: str
    line: int
    said: str
    context: tuple[str, ...]

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return "\n".join([where + self.said, *(f"  | {line}" for line in self.context)])


def first_error(log: str) -> FirstError | None:
    """The first error of the kind closest to the cause, with about ten lines of context; None when there is none."""
    lines = log.splitlines()
    for pattern in _PATTERNS:
        for index, line in enumerate(lines):
            if found := pattern.match(line):
                groups = found.groupdict()
                return FirstError(
                    file=(groups.get("file") or "").removeprefix("../"),
                    line=int(groups.get("line") or 0),
                    said=groups["said"].strip(),
                    context=tuple(_around(lines, index)),
                )
    return None


def disk_was_full(log: str) -> bool:
    """Whether a program in the build ran out of space."""
    return "No space left on device" in log or "Disk quota exceeded" in log


def _around(lines: list[str], index: int) -> list[str]:
    start = index
    # gcc tells before the error in which function and through which includes it came about.
    while (
        start > 0 and index - start < 4 and re.match(r"^(In file included|\s+from |\S+: In function)", lines[start - 1])
    ):
        start -= 1
    end = index + 1
    while end < len(lines) and end - start < _CONTEXT_LINES and not re.match(r"^(  [A-Z]+ +\S|make)", lines[end]):
        end += 1
    return lines[start:end]
