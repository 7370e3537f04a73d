# SPDX-License-Identifier: Apache-2.0
"""The measurements of a run, in ``results.sqlite``; `schema` describes its tables."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from popcorn.errors import HostError, UserError
from popcorn.run.schema import VERSION, bring_up_to_date, transaction, version_of

RESULTS_FILE = "results.sqlite"
_BUSY_S = 30.0

Status = Literal["ok", "failed", "void", "hung", "killed"]
Kind = Literal["measured", "warm-up", "counted"]


@dataclass(frozen=True)
class Measurement:
    """One figure, or the fact that there is none."""

    metric: str
    value: float | None
    unit: str
    kernel: int | None = None
    """The kernel it is about; None for the whole machine."""
    status: Status = "ok"
    raw: str = ""
    """Where the raw output lies, relative to the run's folder."""

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.value is not None):
            raise ValueError(f"{self.metric}: a measurement has a value if and only if it is ok")


@dataclass(frozen=True)
class TrialRow:
    """How one trial of an experiment went. Paths are relative to the run's folder, times Unix time."""

    system: str
    workload: str
    cores: int
    iteration: int
    kind: Kind
    status: Status
    reason: str
    boot: str
    block: int
    manifest: str
    raw: str
    host: str
    begun: float
    ended: float


class Results:
    """The database of one run's folder; a context manager. Several processes may write at a time."""

    def __init__(self, run_dir: Path, purpose: str) -> None:
        """Open it, and make it if it is not there; begins a row in ``runs``.

        Raises:
            UserError: it is of a newer version.
            HostError: it cannot be written.
        """
        self._path = run_dir / RESULTS_FILE
        try:
            self._db = _opened(self._path)
        except sqlite3.Error as error:
            raise _not_written(self._path, error) from error
        self._run = self._insert("INSERT INTO runs (begun, purpose) VALUES (?, ?)", (time.time(), purpose))

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, *measurements: Measurement, manifest: str = "manifest.json") -> None:
        """Write some measurements down.

        Args:
            manifest: path of the manifest that tells how they came about.

        Raises:
            HostError: they cannot be written.
        """
        with self._writing():
            self._add(measurements, None, manifest)

    def add_trial(self, trial: TrialRow, measurements: tuple[Measurement, ...]) -> bool:
        """Write a trial and what it gave down at once.

        Returns whether it was new: of two that are no warm-ups, the first counts.

        Raises:
            HostError: they cannot be written.
        """
        columns = list(trial.__dataclass_fields__)
        with self._writing():
            added = self._db.execute(
                f"INSERT OR IGNORE INTO trials (run, {', '.join(columns)}) VALUES (?, {', '.join('?' * len(columns))})",
                (self._run, *(getattr(trial, column) for column in columns)),
            )
            if added.rowcount == 1:
                self._add(measurements, added.lastrowid, trial.manifest)
        return added.rowcount == 1

    def _add(self, measurements: tuple[Measurement, ...], trial: int | None, manifest: str) -> None:
        for one in measurements:
            self._db.execute(
                "INSERT INTO measurements (run, trial, kernel, metric, value, unit, status, manifest, raw, taken) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self._run, trial, one.kernel, one.metric, one.value, one.unit, one.status),
                    *(manifest, one.raw, time.time()),
                ),
            )

    def _insert(self, statement: str, values: tuple[object, ...]) -> int:
        with self._writing():
            return int(self._db.execute(statement, values).lastrowid or 0)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with transaction(self._db):
                yield
        except sqlite3.Error as error:
            raise _not_written(self._path, error) from error


def read_results(run_dir: Path) -> list[Measurement]:
    """All measurements of a run outside of trials, in the order they were taken; none if nothing was measured.

    Raises:
        UserError: the database is damaged, or cannot be read by this version.
    """
    path = run_dir / RESULTS_FILE
    if not path.is_file():
        return []
    with reading(path) as db:
        # Version 1 has these columns as well, and no trials.
        only = " WHERE trial IS NULL" if version_of(db) > 1 else ""
        rows = db.execute(
            f"SELECT metric, value, unit, kernel, status, raw FROM measurements{only} ORDER BY id"
        ).fetchall()
    return [Measurement(*row) for row in rows]


def read_trials(run_dir: Path) -> list[tuple[TrialRow, list[Measurement]]]:
    """All trials of a run with what they gave, in the order they were recorded.

    Raises:
        UserError: there are no results, they are damaged, or this version cannot read them.
    """
    path = run_dir / RESULTS_FILE
    if not path.is_file():
        raise UserError(f"{run_dir} has no results ({RESULTS_FILE})", hint="runs of experiments: `popcorn run`")
    columns = list(TrialRow.__dataclass_fields__)
    with reading(path) as db:
        if version_of(db) < 2:
            return []
        trials = {
            row[0]: (TrialRow(*row[1:]), list[Measurement]())
            for row in db.execute(f"SELECT id, {', '.join(columns)} FROM trials ORDER BY id")
        }
        for trial, *row in db.execute(
            "SELECT trial, metric, value, unit, kernel, status, raw FROM measurements "
            "WHERE trial IS NOT NULL ORDER BY id"
        ):
            trials[trial][1].append(Measurement(*row))
    return list(trials.values())


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database of a run, for reading only.

    Raises:
        UserError: it is damaged, which may be seen only where it is read, or cannot be read by this version.
    """
    with closing(_opened_to_read(path)) as db:
        try:
            yield db
        except sqlite3.Error as error:
            raise _not_read(path, error) from error


def _opened_to_read(path: Path) -> sqlite3.Connection:
    # A reader that may not write leaves the files of the write-ahead log behind, and where nothing can be written it
    # cannot make them.
    mode = "rw" if all(os.access(place, os.W_OK) for place in (path, path.parent)) else "ro&immutable=1"
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S)
        db.execute("PRAGMA query_only = ON")
        # An attached file that is not there would be made.
        db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    except sqlite3.Error as error:
        raise _not_read(path, error) from error
    try:
        version = version_of(db)
    except sqlite3.Error as error:
        db.close()
        raise _not_read(path, error) from error
    if not version:
        db.close()
        raise UserError(
            f"{path} has no tables: nothing was recorded, or it is no file of Popcorn's",
            hint=f"a run that was stopped before its first trial goes on: `popcorn run --resume {path.parent.name}`",
        )
    if not 1 <= version <= VERSION:
        db.close()
        raise _wrong_version(path, version, "reads")
    return db


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA foreign_keys = ON")
        version = bring_up_to_date(db)
        if version != VERSION:
            raise _wrong_version(path, version, "writes")
    except BaseException:
        db.close()
        raise
    return db


def _not_read(path: Path, error: sqlite3.Error) -> UserError:
    return UserError(
        f"cannot read the results {path}: {error}",
        hint="if it is damaged, take it from a copy, or measure anew; `sqlite3 FILE .recover` may save a part",
    )


def _not_written(path: Path, error: sqlite3.Error) -> HostError:
    return HostError(
        f"cannot write the results {path}: {error}",
        hint="what was recorded before stays; see whether the disk is full or the folder may not be written to",
    )


def _wrong_version(path: Path, version: int, does: str) -> UserError:
    return UserError(
        f"{path} has schema version {version}; this Popcorn {does} version {VERSION}",
        hint="use the Popcorn that wrote it, or record into another folder" if version > VERSION else "",
    )
