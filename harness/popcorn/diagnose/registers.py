# SPDX-License-Identifier: Apache-2.0
"""The registers of a machine's CPUs, from what QEMU's monitor prints of them."""

from __future__ import annotations

import re

_CPU = re.compile(r"^CPU#(\d+)", re.MULTILINE)
_REGISTER = re.compile(r"\b(R(?:[A-D]X|[SD]I|[SB]P|IP|FL|\d+)) ?=([0-9a-f]{16})\b")
_SEGMENT = re.compile(r"^([CDEFGS]S) ?=([0-9a-f]{4}) ([0-9a-f]{16})", re.MULTILINE)


def parse_registers(text: str) -> dict[int, dict[str, int]]:
    """Registers by CPU, from ``info registers -a``, by names in lower case; segments with their ``_base``."""
    found = {}
    heads = [*_CPU.finditer(text)]
    ends = [head.start() for head in heads[1:]]
    for head, end in zip(heads, [*ends, len(text)], strict=False):
        part = text[head.end() : end]
        registers = {name.lower(): int(value, 16) for name, value in _REGISTER.findall(part)}
        for name, selector, base in _SEGMENT.findall(part):
            registers[name.lower()] = int(selector, 16)
            registers[f"{name.lower()}_base"] = int(base, 16)
        found[int(head[1])] = registers
    return found
