# SPDX-License-Identifier: Apache-2.0
"""What a job has come to so far: what its record, its summary and its reports tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from popcorn.ci.job import Job
from popcorn.ci.record import VERDICTS_FILE, Record
from popcorn.gate.compare import Comparison
from popcorn.testing.tell import read_unended, read_verdicts
from popcorn.testing.verdict import TestVerdict, exit_status


@dataclass
class Found:
    """All that is known by now."""

    job: Job
    record: Record
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    """By experiment."""

    @property
    def verdicts(self) -> list[TestVerdict]:
        return read_verdicts(self.job.folder / VERDICTS_FILE)

    @property
    def unended(self) -> list[str]:
        """The tests that ran when they were stopped."""
        return read_unended(self.job.folder / VERDICTS_FILE)

    @property
    def before(self) -> dict[str, TestVerdict]:
        """What the baseline's tests came to, by test."""
        folder = self.job.wanted.baseline
        return {one.test: one for one in read_verdicts(folder / VERDICTS_FILE)} if folder else {}

    def status(self) -> int:
        """The exit status that this comes to."""
        return exit_status([*(step.outcome for step in self.record.steps), *(one.outcome for one in self.verdicts)])
