# SPDX-License-Identifier: Apache-2.0
"""The measurements of a run, in ``results.sqlite``.

Schema, version 1 (``PRAGMA user_version``). Rows are only ever added.

    runs          id, begun (Unix time), purpose
    measurements  id, run -> runs.id, kernel (id, or NULL: the whole machine), metric, value (NULL unless ok),
                  unit, status ('ok', 'failed', 'void'), raw (path in the run's folder, or ''), taken (Unix time)

``failed``: what was measured ran and failed. ``void``: there is no measurement, e.g. because the
kernel was not there. Neither has a value, so that none is ever averaged.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from popcorn.errors import HostError, UserError

RESULTS_FILE = "results.sqlite"
VERSION = 1
_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, begun REAL NOT NULL, purpose TEXT NOT NULL);
CREATE TABLE measurements (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    kernel INTEGER,
    metric TEXT NOT NULL,
    value REAL,
    unit TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'void')),
    raw TEXT NOT NULL,
    taken REAL NOT NULL,
    CHECK ((status = 'ok') = (value IS NOT NULL))
);
CREATE TRIGGER measurements_stay BEFORE UPDATE ON measurements BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER measurements_are_kept BEFORE DELETE ON measurements BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

Status = Literal["ok", "failed", "void"]


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


class Results:
    """The database of one run's folder; a context manager."""

    def __init__(self, run_dir: Path, purpose: str) -> None:
        """Open it, and make it if it is not there; begins a row in ``runs``.

        Raises:
            HostError: it is of another version, or cannot be written.
        """
        self._path = run_dir / RESULTS_FILE
        try:
            self._db = _opened(self._path)
            self._run = self._add("INSERT INTO runs (begun, purpose) VALUES (?, ?)", (time.time(), purpose))
        except sqlite3.Error as error:
            raise HostError(f"cannot write the results {self._path}: {error}") from error

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, *measurements: Measurement) -> None:
        """Write some measurements down."""
        with _transaction(self._db):
            for one in measurements:
                self._db.execute(
                    "INSERT INTO measurements (run, kernel, metric, value, unit, status, raw, taken) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (self._run, one.kernel, one.metric, one.value, one.unit, one.status, one.raw, time.time()),
                )

    def _add(self, statement: str, values: tuple[object, ...]) -> int:
        with _transaction(self._db):
            return int(self._db.execute(statement, values).lastrowid or 0)


def read_results(run_dir: Path) -> list[Measurement]:
    """All measurements of a run, in the order they were taken; none if nothing was measured.

    Raises:
        UserError: the database cannot be read by this version.
    """
    path = run_dir / RESULTS_FILE
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise UserError(f"{path} has schema version {version}; this Popcorn reads version {VERSION}")
            rows = db.execute(
                "SELECT metric, value, unit, kernel, status, raw FROM measurements ORDER BY id"
            ).fetchall()
    except sqlite3.Error as error:
        raise UserError(f"cannot read the results {path}: {error}") from error
    return [Measurement(*row) for row in rows]


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA foreign_keys = ON")
    with _transaction(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _statements(_SCHEMA):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
    if version not in (0, VERSION):
        db.close()
        raise HostError(
            f"{path} has schema version {version}; this Popcorn writes version {VERSION}",
            hint="record into another folder",
        )
    return db


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
