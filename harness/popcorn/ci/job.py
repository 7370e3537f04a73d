# SPDX-License-Identifier: Apache-2.0
"""What one `popcorn ci` is asked to do; all that can be wrong with it is told before anything is begun."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from popcorn.build.kconfig import fragments
from popcorn.build.series import load_series
from popcorn.ci.record import RECORD_FILE, Record, read_record
from popcorn.dirs import source_root
from popcorn.errors import SeriesError, UserError
from popcorn.experiment.description import find_description, read_experiment
from popcorn.gate.measured import read_measured
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
    environment: dict[str, str] = field(default_factory=dict)
    """What the programs of tests and experiments find, besides ours: the kernel that was built, if it is of a --source
    that they would not know of."""

    @property
    def suites(self) -> tuple[str, ...]:
        return self.wanted.suites or (str(source_root() / "testsuites"),)

    @property
    def selection(self) -> list[str]:
        """The tests, as words for pytest."""
        return [*self.suites, *(["-k", self.wanted.expression] if self.wanted.expression else [])]

    @property
    def cwd(self) -> Path:
        """Where tests run: one's own where one is, the shipped ones where they are."""
        return Path.cwd() if self.wanted.suites else source_root()


def check(wanted: Wanted, folder: Path | None, summary: Path | None = None) -> Job:
    """
    Args:
        folder: where the results go; a new one among the runs if not given.
        summary: where the summary goes, too.

    Raises:
        UserError: something is not there, or not what it should be; nothing was begun.
    """
    if folder is not None and (any(folder.iterdir()) if folder.is_dir() else folder.exists()):
        raise UserError(f"{folder} holds something already", hint="name a new --output, or remove it")
    if not wanted.tests and (wanted.suites or wanted.expression):
        raise UserError(f"--no-tests and {'--suite' if wanted.suites else '-k'} contradict each other")
    if wanted.workers not in ("auto", "logical") and not wanted.workers.isdecimal():
        raise UserError(f"-n {wanted.workers} is no number of tests at a time", hint="write a number, or auto")
    for suite in wanted.suites:
        if not Path(suite.partition("::")[0]).exists():
            raise UserError(f"there are no tests {suite!r}", hint="--suite takes a file, a folder or a node id")
    # What is wrong with the patches is what the job finds out, and no mistake in what it was asked for.
    with contextlib.suppress(SeriesError):
        fragments(load_series(wanted.series), wanted.flavour)
    if wanted.source is not None and not wanted.source.exists():
        raise UserError(f"the kernel source {wanted.source} is not there", hint="--source takes a tree or a tarball")
    stems: dict[str, str] = {}
    for name in wanted.experiments:
        read_experiment(find_description(name))
        if other := stems.get(Path(name).stem):
            raise UserError(f"the experiments {other} and {name} have one name", hint="rename one of them")
        stems[Path(name).stem] = name
    if not wanted.tests and not wanted.experiments and wanted.baseline is not None:
        raise UserError("nothing is measured that could be compared", hint="name an --experiment")
    baseline = _baseline(wanted, stems) if wanted.baseline is not None else None
    thresholds = load_thresholds(wanted.thresholds)
    for place, option in ((folder, "--output"), (summary.parent if summary is not None else None, "--summary")):
        if place is not None:
            _make_writable(place, option)
    return Job(wanted, folder.absolute() if folder is not None else new_run_dir("ci"), thresholds, baseline)


def claim(job: Job) -> None:
    """Take the folder.

    Raises:
        UserError: another command was faster.
    """
    try:
        (job.folder / RECORD_FILE).open("x").close()
    except FileExistsError:
        raise UserError(f"another `popcorn ci` writes to {job.folder}", hint="name another --output") from None


def _baseline(wanted: Wanted, experiments: dict[str, str]) -> Record:
    assert wanted.baseline is not None
    if not (wanted.baseline / RECORD_FILE).is_file():
        raise UserError(
            f"{wanted.baseline} is no baseline: it has no {RECORD_FILE}",
            hint="name the --output folder of an earlier `popcorn ci`",
        )
    record = read_record(wanted.baseline)
    for stem in experiments:
        if run := record.experiments.get(stem):
            try:
                read_measured(wanted.baseline / run)
            except UserError as error:
                hint = "make a new baseline: run without --baseline, and keep the --output"
                raise UserError(f"{stem} cannot be compared with the baseline: {error}", hint=hint) from error
    return record


def _make_writable(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}", hint=f"name another place for {option}"
        ) from error
