# SPDX-License-Identifier: Apache-2.0
"""What a search is about: all that decides its answer but the runs. It does not change once the search has begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from popcorn.bisect.actions import Terms

Kind = Literal["patches", "commits", "options", "parameters"]
SEARCH_REPOSITORY = "search.git"


@dataclass(frozen=True)
class Test:
    """What is run on each candidate."""

    __test__ = False

    how: Literal["suite", "command", "metric", "build"]
    """A pytest suite, a shell command in a kernel, a measurement, or nothing but the build."""
    what: str = ""
    """pytest's -k expression or node id, the command, the metric."""
    kernel: int | None = None
    """Where the command runs; the secondary with the smallest id if not given."""
    timeout_s: float = 600.0


@dataclass(frozen=True)
class PlanWords:
    """What the plan is made of, as given on the command line."""

    machine: str = "small"
    policy: str = "per-core"
    memory: str = "numa"
    sizes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    append: str = ""
    qemu: tuple[str, ...] = ()
    """Further words for QEMU."""


@dataclass(frozen=True)
class Task:
    """A search as it was asked for, with everything named that may change while it lies idle."""

    kind: Kind
    good: str
    """A commit of the search's repository; likewise."""
    bad: str
    test: Test
    terms: Terms
    series: str = "6.12"
    flavour: str = "default"
    plan: PlanWords = field(default_factory=PlanWords)
    labels: dict[str, str] = field(default_factory=dict)
    """What a candidate is called, where the subject of its commit is not it."""
    requests: tuple[tuple[str, str], ...] = ()
    """The configuration: symbol and value."""
    source: str = ""
    """The kernel source that the user named."""
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    head: str = ""
    """The commit that is built where only its configuration changes."""
    tree: str = ""
    """The git tree whose commits are searched."""
    patches: tuple[tuple[str, str], ...] = ()
    """The series that is applied on each commit of that tree: path and sha256."""
    command: tuple[str, ...] = ()
    """The words that began the search."""
