# SPDX-License-Identifier: Apache-2.0
"""What a search is asked for, and what it asks for in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from popcorn.bisect.evidence import Stage


@dataclass(frozen=True)
class Terms:
    """What the user asks of the search."""

    alpha: float
    """How likely at most a good change may be called the first bad one."""
    beta: float
    """How likely at most one before it is bad already."""
    rate: float | None = None
    """How often the bad end fails, per run; measured if not given."""
    noise: float = 0.001
    """How often the failure is seen where the change is not in."""
    pattern: str = ""
    """What the title of the failure holds; the bad end tells it if not given."""
    worse: float | None = None
    """By which fraction a measurement must be worse, where the test is one."""
    max_runs: int = 200
    """Of one candidate."""


@dataclass(frozen=True)
class Try:
    """Run the test on a candidate."""

    commit: str
    why: Literal["bad end", "good end", "search", "confirm"]
    steps: int = 0
    """About so many candidates are left, this one included."""
    runs: float = 1.0
    """About so many runs each takes."""
    until: Stage = Stage.TEST
    """What gets past this stage passes."""


@dataclass(frozen=True)
class Found:
    """The answer."""

    commits: tuple[str, ...]
    """The change; several when those between cannot be told apart."""
    error: float
    """How likely at most it is wrong, if the failure, once in, stays in."""
    confirmed: bool
    """Whether its error bound is the one that was asked for."""


@dataclass(frozen=True)
class Refused:
    """Why there is nothing to search, or no way on."""

    cause: str
    remedy: str
    by_host: bool = False


Action = Try | Found | Refused
