# SPDX-License-Identifier: Apache-2.0
"""A kernel's console as lines, cut into the lives that the kernel had."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from popcorn.machine.timestamps import Entry

# "<4>[   12.345678][   T42] "; the level and the caller are there for some configurations only.
_STAMP = re.compile(r"(?:<\d+>)?\[ *(\d+\.\d{6})\](?:\[ *[TC]\d+\])? ?")
_BANNER = re.compile(r"Linux version \d+\.\d+")


@dataclass(frozen=True)
class Line:
    """One message, without what the kernel puts before it."""

    text: str
    by_kernel: bool
    """Whether the kernel printed it; programs write to the same console."""
    stamp_s: float | None = None
    """The kernel's own clock."""
    time_s: float = 0.0
    """The host's clock (Unix time)."""

    def shown(self) -> str:
        """As it was printed."""
        return self.text if self.stamp_s is None else f"[{self.stamp_s:12.6f}] {self.text}"


def read_lines(entries: Iterable[Entry]) -> list[Line]:
    """Recorded entries as lines: pieces are joined, and messages that share a line with others are parted."""
    lines: list[Line] = []
    pending: Entry | None = None
    for entry in entries:
        if entry.lost:
            lines += _parted(pending)
            pending = None
            continue
        whole = entry if pending is None else replace(pending, text=pending.text + entry.text)
        pending = whole if entry.more else None
        if not entry.more:
            lines += _parted(whole)
    lines += _parted(pending)
    return lines


def parse_text(text: str) -> list[Line]:
    """A console as it was printed, e.g. from a file."""
    return read_lines(Entry(0.0, line.rstrip("\r")) for line in text.splitlines())


def _parted(entry: Entry | None) -> list[Line]:
    if entry is None:
        return []
    text = entry.text
    stamps = list(_STAMP.finditer(text))
    first = stamps[0].start() if stamps else len(text)
    lines = [Line(text[:first], False, None, entry.time_s)] if first or not stamps else []
    ends = [following.start() for following in stamps[1:]]
    for stamp, end in zip(stamps, [*ends, len(text)], strict=False):
        lines.append(Line(text[stamp.end() : end].rstrip("\r"), True, float(stamp[1]), entry.time_s))
    return lines


def lives(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines of each life of a kernel, the oldest first: each begins with a boot banner."""
    begins = [number for number, line in enumerate(lines) if _BANNER.match(line.text)]
    if not begins or begins[0] > 0:
        begins.insert(0, 0)
    found = [list(lines[begin:end]) for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True)]
    # What precedes the first banner is no life of its own, unless it is the end of one whose beginning was lost.
    if len(found) > 1 and not any(line.by_kernel for line in found[0]):
        found = [found[0] + found[1], *found[2:]]
    return [_trusted(life) for life in found]


def _trusted(life: list[Line]) -> list[Line]:
    # With printk.time=0 nothing tells the kernel's lines from others.
    if any(line.by_kernel for line in life):
        return life
    return [replace(line, by_kernel=True) for line in life]
