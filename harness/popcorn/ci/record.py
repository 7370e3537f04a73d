# SPDX-License-Identifier: Apache-2.0
"""The folder of a `popcorn ci`, which a later one takes as its baseline.

summary.md            the answer for people
ci.json               the answer for programs: `Record`, rewritten when a step has ended
verdicts.jsonl        a line a test, as it ended: `popcorn.testing.verdict.TestVerdict`; beside it those
                      that had begun, if pytest was ended before its time
junit/tests.xml       pytest's report; where pytest could not write it, of the tests that had ended
junit/ci.xml          build, experiments and comparison, a case each
build.log, tests.log  what was said; also experiment-NAME.log
failed/               consoles and events of machines on which a test failed, a folder a test
runs/                 a folder an experiment, as `popcorn run` makes them
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from popcorn.errors import UserError
from popcorn.files import write_atomic
from popcorn.testing.verdict import Outcome

RECORD_FILE, SUMMARY_FILE, VERDICTS_FILE = "ci.json", "summary.md", "verdicts.jsonl"
VERSION = 1
JUNIT, FAILED, RUNS = "junit", "failed", "runs"
TESTS = "tests"
"""What the step is called that runs the suites."""
COMPARE = "compare "
"""What the name of a step begins with that compares an experiment."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Model):
    """Something that was done."""

    name: str
    outcome: Outcome
    """``skipped`` if it could not begin because of another."""
    elapsed_s: float
    detail: str = ""
    """What it found in a line, or why it failed."""
    log: str = ""
    """Relative to the folder."""


class Record(_Model):
    """What was found so far. Times are Unix time."""

    version: int = VERSION
    popcorn: str
    commit: str
    typed: tuple[str, ...]
    begun: float
    ended: float | None = None
    stopped: str = ""
    """What ended it before its end, e.g. ``SIGTERM during tests``; the rest is what had ended by then."""
    status: int | None = None
    """The exit status; None while it goes on."""
    steps: tuple[Step, ...] = ()
    experiments: dict[str, str] = {}
    """Name to folder of the run, relative."""

    def save(self, folder: Path) -> None:
        write_atomic(folder / RECORD_FILE, self.model_dump_json(indent=1) + "\n")


def read_record(folder: Path) -> Record:
    """
    Raises:
        UserError: it is no folder of `popcorn ci`, or of another version.
    """
    path = folder / RECORD_FILE
    hint = "make a new baseline: run without --baseline, and keep the --output"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.get("version") if isinstance(found, dict) else None
        if version != VERSION:
            raise UserError(f"{path} has version {version}; this Popcorn reads version {VERSION}", hint=hint)
        return Record.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"cannot read {path}: {where}: {first['msg']}", hint=hint) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}", hint=hint) from error
