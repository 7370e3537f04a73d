# SPDX-License-Identifier: Apache-2.0
"""Console output as lines with the host's time of their first byte, written as JSON lines and read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_LONGEST_LINE_BYTES = 4096


@dataclass(frozen=True)
class Entry:
    """A line of a console, or a piece of one, or a gap.

    ``time_s`` is the host's clock (Unix time) when the first byte was seen. ``more``: the
    line goes on in the next entry. ``lost``: so many bytes were overwritten before they were read.
    """

    time_s: float
    text: str
    more: bool = False
    lost: int = 0

    def to_json(self) -> str:
        """One line of a ``.jsonl`` file, without the newline."""
        fields: dict[str, Any] = {"t": round(self.time_s, 3), "text": self.text}
        if self.more:
            fields["more"] = True
        if self.lost:
            fields["lost"] = self.lost
        return json.dumps(fields, ensure_ascii=False)


class LineSplitter:
    """Cuts a byte stream into entries."""

    def __init__(self) -> None:
        self._rest = b""
        self._since = 0.0

    @property
    def pending_since(self) -> float | None:
        """When the first byte of a line that has not ended yet was seen."""
        return self._since if self._rest else None

    def feed(self, data: bytes, time_s: float) -> list[Entry]:
        """Take some bytes, which were seen at a time; return the lines that are whole now."""
        entries = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            entries.append(Entry(self._since if self._rest else time_s, _shown(self._rest + line)))
            self._rest = b""
        if rest:
            if not self._rest:
                self._since = time_s
            self._rest += rest
            if len(self._rest) > _LONGEST_LINE_BYTES:
                entries += self.flush()
        return entries

    def flush(self) -> list[Entry]:
        """Give out a line that has not ended, e.g. a prompt."""
        if not self._rest:
            return []
        entry = Entry(self._since, _shown(self._rest), more=True)
        self._rest = b""
        return [entry]


def _shown(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")


def parse_entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Read entries back; a line cut off by a crash is passed over."""
    for line in lines:
        try:
            fields = json.loads(line)
            yield Entry(
                float(fields["t"]), str(fields["text"]), bool(fields.get("more", False)), int(fields.get("lost", 0))
            )
        except (ValueError, KeyError, TypeError):
            continue
