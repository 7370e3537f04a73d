# SPDX-License-Identifier: Apache-2.0
"""When a command is killed, and with whom."""

from __future__ import annotations

import random
from dataclasses import dataclass

from popcorn.testing.switches import slow

_SEED = 2014
KILLS = 20 if slow() else 3
"""Of each stage."""


@dataclass(frozen=True)
class Kill:
    """When, as a share of the time that the command takes, and whom."""

    share: float
    group: bool

    def __str__(self) -> str:
        return f"{'group' if self.group else 'process'} at {self.share:.2f}"


def kills(stage: str) -> list[Kill]:
    """The kills of a stage: spread over its time, and the same ones everywhere."""
    choose = random.Random(f"{_SEED} {stage}")
    return [Kill((number + choose.random()) / KILLS, number % 2 == 0) for number in range(KILLS)]
