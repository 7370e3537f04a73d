# SPDX-License-Identifier: Apache-2.0
"""From the places in code that a report names to lines of source, by the symbols of that very build."""

from __future__ import annotations

import bisect
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.process import require_program, run

_PLACE = re.compile(r"([A-Za-z_][\w.$]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)")
_BARE_ADDRESS = re.compile(r"\[<(ffffffff[0-9a-f]{8})>\](?!\s+(?:\? )?[\w\[])|(?<![\w<])0x(ffffffff[0-9a-f]{8})\b")
_RIP = re.compile(r"\bR?IP\b")
_MAP_LINE = re.compile(r"([0-9a-f]+) [tTwW] (\S+)")


class SymbolMap:
    """Where the functions of a kernel are, from its System.map."""

    def __init__(self, text: str) -> None:
        found = sorted((int(address, 16), name) for address, name in _MAP_LINE.findall(text))
        self._at = [address for address, _ in found]
        self._names = [name for _, name in found]
        self._by_name: dict[str, list[int]] = {}
        for index, name in enumerate(self._names):
            self._by_name.setdefault(name, []).append(index)

    def address(self, function: str, offset: int, size: int) -> int | None:
        """The address of a place; None for a function that is not there or, of several by its name, not to be told."""
        indices = self._by_name.get(function, [])
        if len(indices) > 1:
            indices = [index for index in indices if self._size(index) == size]
        return self._at[indices[0]] + offset if len(indices) == 1 else None

    def place(self, address: int) -> str | None:
        """``function+0x12/0x34`` for an address; None where no function is."""
        index = bisect.bisect_right(self._at, address) - 1
        if index < 0 or address >= self._at[-1]:
            return None
        return f"{self._names[index]}+{address - self._at[index]:#x}/{self._size(index):#x}"

    def _size(self, index: int) -> int:
        # As the kernel computes it: up to the next symbol that is elsewhere.
        following = bisect.bisect_right(self._at, self._at[index])
        return self._at[following] - self._at[index] if following < len(self._at) else 0


@dataclass(frozen=True)
class _Mention:
    line: int
    address: int


def decoded(lines: Sequence[str], symbols: SymbolMap, debug_info: Path | None) -> list[str]:
    """The lines of a report with what can be told of the addresses in them.

    Args:
        debug_info: the kernel's image with debug information; without, bare addresses alone become functions.

    Raises:
        HostError: addr2line of binutils is missing.
    """
    texts = [_BARE_ADDRESS.sub(lambda found: _named(found, symbols), line) for line in lines]
    mentions = [mention for number, text in enumerate(texts) if (mention := _mention(number, text, symbols))]
    if debug_info is None or not mentions:
        return texts
    where = _source_lines(debug_info, [mention.address for mention in mentions])
    for mention, source in zip(mentions, where, strict=True):
        if source:
            texts[mention.line] = f"{texts[mention.line].rstrip()}  ({source})"
    return texts


def _named(found: re.Match[str], symbols: SymbolMap) -> str:
    place = symbols.place(int(found[1] or found[2], 16))
    return f"{found[0]} {place}" if place else found[0]


def _mention(number: int, text: str, symbols: SymbolMap) -> _Mention | None:
    """The last place that a line names: what precedes it are addresses of the same."""
    found = None
    for place in _PLACE.finditer(text):
        found = place
    if found is None:
        return None
    offset = int(found[2], 16)
    address = symbols.address(found[1], offset, int(found[3], 16))
    if address is None:
        return None
    # A trace holds where a call returns to, which may be another line.
    return _Mention(number, address if _RIP.search(text) or not offset else address - 1)


def _source_lines(debug_info: Path, addresses: Sequence[int]) -> list[str]:
    """``file:line`` for each address, of the innermost function first where functions were inlined."""
    require_program("addr2line")
    asked = [f"{address:#x}" for address in addresses]
    said = run(["addr2line", "-a", "-i", "-e", debug_info, *asked]).stdout.splitlines()
    found: list[list[str]] = []
    for line in said:
        if re.fullmatch(r"0x[0-9a-f]+", line):
            found.append([])
        elif found and not line.startswith("?"):
            found[-1].append(_short(line))
    return [" in ".join(dict.fromkeys(lines)) for lines in found]


def _short(where: str) -> str:
    path, _, line = where.partition(" (discriminator")[0].rpartition(":")
    # Sources are named relative to the folder of the objects, which lies in that of the sources.
    return f"{posixpath.normpath(path).removeprefix('../')}:{line}"
