# SPDX-License-Identifier: Apache-2.0
"""Results for other programs: CSV and Parquet, and SQL on them as they are.

A row is a measurement with all that is known of its trial (NULL outside experiments), so that one file is one table.
"""

from __future__ import annotations

import csv
import errno
import io
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from popcorn.errors import UserError
from popcorn.files import write_atomic
from popcorn.run.results import RESULTS_FILE, reading

Form = Literal["csv", "parquet"]
_NO_PLACE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS})

_INTEGER, _REAL, _TEXT = "BIGINT", "DOUBLE", "VARCHAR"
COLUMNS = {
    "run": _TEXT,
    "trial": _INTEGER,
    "system": _TEXT,
    "workload": _TEXT,
    "cores": _INTEGER,
    "iteration": _INTEGER,
    "kind": _TEXT,
    "block": _INTEGER,
    "boot": _TEXT,
    "begun": _REAL,
    "ended": _REAL,
    "kernel": _INTEGER,
    "metric": _TEXT,
    "value": _REAL,
    "unit": _TEXT,
    "status": _TEXT,
    "reason": _TEXT,
    "manifest": _TEXT,
    "raw": _TEXT,
    "taken": _REAL,
}
"""Of an export, with their types in SQL."""

_QUERY = """
SELECT ?, t.id, t.system, t.workload, t.cores, t.iteration, t.kind, t.block, t.boot, t.begun, t.ended,
       m.kernel, m.metric, m.value, m.unit, m.status, coalesce(t.reason, ''), m.manifest,
       CASE m.raw WHEN '' THEN coalesce(t.raw, '') ELSE m.raw END, m.taken
FROM measurements m LEFT JOIN trials t ON t.id = m.trial ORDER BY m.id
"""
_QUERY_1 = """
SELECT ?, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       m.kernel, m.metric, m.value, m.unit, m.status, '', 'manifest.json', m.raw, m.taken
FROM measurements m ORDER BY m.id
"""


def export(run_dirs: Sequence[Path], form: Form, target: Path | None) -> int:
    """Write all measurements of some runs into one file, or to standard output.

    Args:
        target: None for standard output, which only takes CSV.

    Returns how many there were.

    Raises:
        UserError: a run has no results, standard output is to get Parquet, or there can be no such file.
    """
    rows = [row for run_dir in run_dirs for row in _rows(run_dir)]
    if not rows:
        raise UserError(
            f"{', '.join(str(run_dir) for run_dir in run_dirs)}: there are no measurements to export",
            hint="`popcorn run` and `popcorn bench` measure",
        )
    text = _csv(rows)
    if target is None:
        if form == "parquet":
            raise UserError("Parquet is no text", hint="name a file with --output")
        print(text, end="")
        return len(rows)
    try:
        if form == "csv":
            write_atomic(target, text)
        else:
            _write_parquet(text, target)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise UserError(
            f"cannot write {target}: {error.strerror}",
            hint="name another place with --output",
        ) from error
    return len(rows)


def query(run_dir: Path, statement: str) -> tuple[list[str], list[tuple[object, ...]]]:
    """What a statement of SQL (SQLite's) finds in a run's results, which it cannot change: heading and rows.

    Raises:
        UserError: there are no results, or the statement is wrong.
    """
    with reading(_database(run_dir)) as db:
        try:
            found = db.execute(statement)
            return [column[0] for column in found.description or ()], found.fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            raise UserError(
                f"SQLite refuses the statement: {error}", hint=f"one statement that reads; tables: {_tables(db)}"
            ) from error


def _tables(db: sqlite3.Connection) -> str:
    """``runs (id, begun, purpose); trials (…); …``"""
    rows = db.execute(
        "SELECT m.name, group_concat(c.name, ', ') FROM sqlite_master m, pragma_table_info(m.name) c "
        "WHERE m.type = 'table' GROUP BY m.name ORDER BY m.rowid"
    )
    return "; ".join(f"{name} ({columns})" for name, columns in rows)


def _database(run_dir: Path) -> Path:
    path = run_dir / RESULTS_FILE
    if not path.is_file():
        raise UserError(f"{run_dir} has no results ({RESULTS_FILE})", hint="`popcorn run` and `popcorn bench` measure")
    return path


def _rows(run_dir: Path) -> list[tuple[object, ...]]:
    from popcorn.run.schema import version_of

    with reading(_database(run_dir)) as db:
        return db.execute(_QUERY if version_of(db) > 1 else _QUERY_1, (run_dir.name,)).fetchall()


def _csv(rows: Iterable[tuple[object, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()


def _write_parquet(text: str, target: Path) -> None:
    import duckdb

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
        source, half = Path(place) / "rows.csv", Path(place) / "rows.parquet"
        source.write_text(text, encoding="utf-8")
        with duckdb.connect() as db:
            rows = db.read_csv(str(source), header=True, columns=COLUMNS, sep=",", quotechar='"', escapechar='"')
            rows.write_parquet(str(half))
        half.replace(target)
