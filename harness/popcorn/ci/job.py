# SPDX-License-Identifier: Apache-2.0
"""What one `popcorn ci` is asked to do; all that can be wrong with it is told before anything is begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from popcorn.ci.record import RECORD_FILE, Record, read_record
from popcorn.dirs import source_root
from popcorn.errors import UserError
from popcorn.experiment.description import find_description, read_experiment
from popcorn.gate.thresholds import Thresholds, load_thresholds
from popcorn.machine.launch import new_run_dir


@dataclass(frozen=True)
class Wanted:
    """What the user typed."""

    suites: tuple[str, ...] = ()
    """Files, folders or node ids of tests; those that come with Popcorn if none is named."""
    expression: str = ""
    """As pytest's -k."""
    tests: bool = True
    experiments: tuple[str, ...] = ()
    baseline: Path | None = None
    thresholds: Path | None = None
    series: str = "6.12"
    flavour: str = "default"
    source: Path | None = None
    repeats: int = 5
    retries: int = 2
    workers: str = "auto"


@dataclass(frozen=True)
class Job:
    """The same, checked."""

    wanted: Wanted
    folder: Path
    thresholds: Thresholds
    baseline: Record | None

    @property
    def suites(self) -> tuple[str, ...]:
        return self.wanted.suites or (str(source_root() / "testsuites"),)

    @property
    def cwd(self) -> Path:
        """Where tests run: one's own where one is, the shipped ones where they are."""
        return Path.cwd() if self.wanted.suites else source_root()


def check(wanted: Wanted, folder: Path | None) -> Job:
    """
    Args:
        folder: where the results go; a new one among the runs if not given.

    Raises:
        UserError: something is not there, or not what it should be; nothing was begun.
    """
    if folder is not None and (any(folder.iterdir()) if folder.is_dir() else folder.exists()):
        raise UserError(f"{folder} holds something already", hint="name a new --output, or remove it")
    for suite in wanted.suites:
        if not Path(suite.partition("::")[0]).exists():
            raise UserError(f"there are no tests {suite!r}", hint="--suite takes a file, a folder or a node id")
    stems: dict[str, str] = {}
    for name in wanted.experiments:
        read_experiment(find_description(name))
        if other := stems.get(Path(name).stem):
            raise UserError(f"the experiments {other} and {name} have one name", hint="rename one of them")
        stems[Path(name).stem] = name
    if not wanted.tests and not wanted.experiments and wanted.baseline is not None:
        raise UserError("nothing is measured that could be compared", hint="name an --experiment")
    if wanted.baseline is not None and not (wanted.baseline / RECORD_FILE).is_file():
        raise UserError(
            f"{wanted.baseline} is no baseline: it has no {RECORD_FILE}",
            hint="name the --output folder of an earlier `popcorn ci`",
        )
    baseline = read_record(wanted.baseline) if wanted.baseline is not None else None
    thresholds = load_thresholds(wanted.thresholds)
    return Job(wanted, folder.absolute() if folder is not None else new_run_dir("ci"), thresholds, baseline)
