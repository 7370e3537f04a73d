# SPDX-License-Identifier: Apache-2.0
"""The tables of ``results.sqlite``, and bringing older ones up to date.

Schema, version 3 (``PRAGMA user_version``). Rows are only ever added; triggers refuse everything else. Times are
Unix time, paths are relative to the run's folder.

    runs          id, begun, purpose: one for each process that wrote here
    trials        id, run -> runs.id, boot (folder of its boot), block, system, workload, cores, iteration, kind
                  ('measured'; 'counted': instructions were counted, and nothing else measured; 'warm-up': in no
                  statistics), status, reason (why there is no value), manifest, raw
                  (path of all that was said), host (who ran it), begun, ended
    measurements  id, run -> runs.id, trial -> trials.id (NULL outside experiments), kernel (id, or NULL: the whole
                  system), metric, value (NULL unless ok), unit, status, manifest, raw (path or ''), taken

    status: ok       there is a value
            failed   what was measured ran and failed
            void     there is no measurement: the answer did not pass its own verification, or nobody was there
            hung     it made no progress, or took longer than it may
            killed   it, or its machine, was ended by somebody else

Only 'ok' has a value, so that nothing else is ever averaged. A trial that is no warm-up is recorded once: of two
writers that bring the same one, the first counts.

Version 2 had no trials that are 'counted'. Version 1 had no trials, no column ``measurements.manifest``, and of the
statuses only the first three.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

VERSION = 3
_STATUSES = "status TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'void', 'hung', 'killed'))"
_RUNS = "CREATE TABLE runs (id INTEGER PRIMARY KEY, begun REAL NOT NULL, purpose TEXT NOT NULL);"
_TRIALS = f"""
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    boot TEXT NOT NULL,
    block INTEGER NOT NULL,
    system TEXT NOT NULL,
    workload TEXT NOT NULL,
    cores INTEGER NOT NULL,
    iteration INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('measured', 'counted', 'warm-up')),
    {_STATUSES},
    reason TEXT NOT NULL,
    manifest TEXT NOT NULL,
    raw TEXT NOT NULL,
    host TEXT NOT NULL,
    begun REAL NOT NULL,
    ended REAL NOT NULL
);
CREATE UNIQUE INDEX trials_once ON trials (kind, system, workload, cores, iteration) WHERE kind <> 'warm-up';
"""
_MEASUREMENTS = f"""
CREATE TABLE measurements (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    trial INTEGER REFERENCES trials (id),
    kernel INTEGER,
    metric TEXT NOT NULL,
    value REAL,
    unit TEXT NOT NULL,
    {_STATUSES},
    manifest TEXT NOT NULL,
    raw TEXT NOT NULL,
    taken REAL NOT NULL,
    CHECK ((status = 'ok') = (value IS NOT NULL))
);
CREATE INDEX measurements_by_trial ON measurements (trial);
"""
_KEPT = "".join(
    f"""
CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER {table}_are_kept BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
    for table in ("runs", "trials", "measurements")
)
_FROM_1 = f"""
DROP TRIGGER measurements_stay;
DROP TRIGGER measurements_are_kept;
ALTER TABLE measurements RENAME TO measurements_1;
{_TRIALS}{_MEASUREMENTS}
INSERT INTO measurements (id, run, trial, kernel, metric, value, unit, status, manifest, raw, taken)
    SELECT id, run, NULL, kernel, metric, value, unit, status, 'manifest.json', raw, taken FROM measurements_1;
DROP TABLE measurements_1;
"""
# A check cannot be changed: the tables are made anew, the one that is referred to first.
_FROM_2 = f"""
DROP TRIGGER runs_stay;
DROP TRIGGER runs_are_kept;
DROP TRIGGER trials_stay;
DROP TRIGGER trials_are_kept;
DROP TRIGGER measurements_stay;
DROP TRIGGER measurements_are_kept;
DROP INDEX trials_once;
DROP INDEX measurements_by_trial;
ALTER TABLE measurements RENAME TO measurements_2;
ALTER TABLE trials RENAME TO trials_2;
{_TRIALS}{_MEASUREMENTS}
INSERT INTO trials SELECT * FROM trials_2;
INSERT INTO measurements SELECT * FROM measurements_2;
DROP TABLE measurements_2;
DROP TABLE trials_2;
"""
_OLDER = {0: _RUNS + _TRIALS + _MEASUREMENTS, 1: _FROM_1, 2: _FROM_2}


def version_of(db: sqlite3.Connection) -> int:
    """The schema's version; 0 for a database without tables."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def bring_up_to_date(db: sqlite3.Connection) -> int:
    """Make the tables, or turn those of an older version into this one's, all or nothing.

    Returns the version that is there now: another than `VERSION` if it is of a newer Popcorn.
    """
    with transaction(db):
        # Looked at inside: another writer may have done it meanwhile.
        version = version_of(db)
        if version not in _OLDER:
            return version
        for statement in _statements(_OLDER[version] + _KEPT):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    return VERSION


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block's statements, or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # After some errors, such as a full disk, SQLite has already done so.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
