# SPDX-License-Identifier: Apache-2.0
"""CPU lists as Linux writes them: ``0-5,8,10``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from popcorn.errors import UserError

_ITEM = re.compile(r"([0-9]+)(?:-([0-9]+))?")
# int() refuses what is much longer.
_MOST_DIGITS = 9
_HINT = "write CPUs as numbers and ranges, e.g. 0-5,8,10"


def parse(text: str) -> tuple[int, ...]:
    """The CPUs of a list, in ascending order.

    Raises:
        UserError: it is empty, not a list, names a CPU twice or has a reversed range.
    """
    cpus: list[int] = []
    for item in text.strip().split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise UserError(f"{item.strip()!r} in the CPU list {text!r} is no CPU", hint=_HINT)
        if max(map(len, filter(None, match.groups()))) > _MOST_DIGITS:
            raise UserError(f"no machine has a CPU {item.strip()[:40]}", hint=_HINT)
        first = int(match[1])
        last = int(match[2]) if match[2] is not None else first
        if last < first:
            raise UserError(
                f"the range {item.strip()!r} in the CPU list {text!r} is reversed",
                hint=f"did you mean {last}-{first}?",
            )
        if last > 65535:
            raise UserError(f"no machine has a CPU {last} (CPU list {text!r})", hint=_HINT)
        cpus.extend(range(first, last + 1))
    ordered = sorted(cpus)
    for left, right in itertools.pairwise(ordered):
        if left == right:
            raise UserError(f"CPU {left} stands twice in the CPU list {text!r}", hint="name it once")
    return tuple(ordered)


def format(cpus: Iterable[int]) -> str:
    """The shortest list that names these CPUs; the empty string for none."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
