# SPDX-License-Identifier: Apache-2.0
"""Checks with an answer, told as they end; one that passed is remembered under everything that decided it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from popcorn.dirs import cache_dir
from popcorn.files import sha256_bytes, write_atomic
from popcorn.progress import Step, step


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    subject: str
    """The patch, or the series."""
    passed: bool
    said: str
    """What was found; for a pass, what it covers."""
    elapsed_s: float
    remembered: bool
    """Whether the answer is an earlier run's."""


@dataclass
class Verification:
    """All checks of one series on one base."""

    series: str
    base: str
    tested: str
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_json(self) -> str:
        """For --json."""
        return json.dumps(asdict(self) | {"passed": self.passed}, indent=2)


class FailedError(Exception):
    """A check's answer is no; the argument says why."""


class Running:
    """A check under way."""

    def __init__(self, progress: Step) -> None:
        self.step = progress
        self.said = ""

    def covers(self, said: str) -> None:
        """What the pass means."""
        self.said = said


class Checker:
    """Runs checks one after the other; a check that fails does not stop the next."""

    def __init__(
        self, result: Verification, decided_by: dict[str, Any], fresh: bool, told: Callable[[Check], None]
    ) -> None:
        """
        Args:
            decided_by: what decides every answer.
            fresh: forget what earlier runs found.
            told: gets each check as it ends.
        """
        self.result, self.decided_by, self.fresh, self.told = result, decided_by, fresh, told

    @contextmanager
    def check(self, name: str, subject: str) -> Iterator[Running]:
        """A check that is never remembered; it fails by raising FailedError."""
        began = time.monotonic()
        passed, said = True, ""
        with step(f"{name}: {subject}") as progress:
            running = Running(progress)
            try:
                yield running
                said = running.said
            except FailedError as failure:
                passed, said = False, str(failure)
        self._ended(Check(name, subject, passed, said, round(time.monotonic() - began, 1), False))

    def remembered(self, name: str, subject: str, decided_by: dict[str, Any], work: Callable[[Running], None]) -> None:
        """A check that is not done again when it passed with all that `decided_by` names the same."""
        key = sha256_bytes(json.dumps([self.decided_by, name, decided_by], sort_keys=True).encode())[:32]
        path = cache_dir() / "verify" / f"{key}.json"
        if not self.fresh and path.is_file():
            earlier = json.loads(path.read_text())
            self._ended(Check(name, subject, True, earlier["said"], earlier["elapsed_s"], True))
            return
        with self.check(name, subject) as running:
            work(running)
        done = self.result.checks[-1]
        if done.passed:
            write_atomic(path, json.dumps({"said": done.said, "elapsed_s": done.elapsed_s}) + "\n")

    def _ended(self, check: Check) -> None:
        self.result.checks.append(check)
        self.told(check)
