# SPDX-License-Identifier: Apache-2.0
"""The results database: migration, several writers, trials that are recorded once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from popcorn.run.results import RESULTS_FILE, Measurement, Results, TrialRow, read_results, read_trials
from popcorn.run.schema import VERSION, version_of

# As version 1 made it, word for word.
_VERSION_1 = """
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
INSERT INTO runs VALUES (1, 5.0, 'demo');
INSERT INTO measurements VALUES (1, 1, NULL, 'boot.wall', 1.5, 's', 'ok', '', 6.0);
INSERT INTO measurements VALUES (2, 1, 3, 'npb.is.S.time', NULL, 's', 'failed', 'npb/is.S.3.txt', 7.0);
PRAGMA user_version = 1;
"""
# As version 2 made it, likewise.
_VERSION_2 = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, begun REAL NOT NULL, purpose TEXT NOT NULL);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    boot TEXT NOT NULL,
    block INTEGER NOT NULL,
    system TEXT NOT NULL,
    workload TEXT NOT NULL,
    cores INTEGER NOT NULL,
    iteration INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('measured', 'warm-up')),
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'void', 'hung', 'killed')),
    reason TEXT NOT NULL,
    manifest TEXT NOT NULL,
    raw TEXT NOT NULL,
    host TEXT NOT NULL,
    begun REAL NOT NULL,
    ended REAL NOT NULL
);
CREATE UNIQUE INDEX trials_once ON trials (system, workload, cores, iteration) WHERE kind = 'measured';
CREATE TABLE measurements (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    trial INTEGER REFERENCES trials (id),
    kernel INTEGER,
    metric TEXT NOT NULL,
    value REAL,
    unit TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'void', 'hung', 'killed')),
    manifest TEXT NOT NULL,
    raw TEXT NOT NULL,
    taken REAL NOT NULL,
    CHECK ((status = 'ok') = (value IS NOT NULL))
);
CREATE INDEX measurements_by_trial ON measurements (trial);
CREATE TRIGGER runs_stay BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER runs_are_kept BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER trials_stay BEFORE UPDATE ON trials BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER trials_are_kept BEFORE DELETE ON trials BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER measurements_stay BEFORE UPDATE ON measurements BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER measurements_are_kept BEFORE DELETE ON measurements BEGIN SELECT RAISE(ABORT, 'append-only'); END;
INSERT INTO runs VALUES (1, 5.0, 'run quick');
INSERT INTO trials VALUES (
    1, 1, 'boots/1', 0, 'smp', 'npb.is', 2, 1, 'measured', 'ok', '', 'boots/1/manifest.json', 'raw/1.txt', 'h', 1.0, 2.0
);
INSERT INTO measurements VALUES
    (1, 1, NULL, NULL, 'boot.wall', 1.5, 's', 'ok', 'manifest.json', '', 6.0),
    (2, 1, 1, NULL, 'time', 0.5, 's', 'ok', 'boots/1/manifest.json', '', 7.0);
PRAGMA user_version = 2;
"""
TRIAL = TrialRow(
    "smp", "npb.is", 2, 1, "measured", "ok", "", "boots/1", 0, "boots/1/manifest.json", "raw/1.txt", "h", 1.0, 2.0
)
_TIME = Measurement("time", 0.5, "s")


def _old(folder: Path) -> list[Measurement]:
    with closing(sqlite3.connect(folder / RESULTS_FILE)) as db:
        db.executescript(_VERSION_1)
    return [
        Measurement("boot.wall", 1.5, "s"),
        Measurement("npb.is.S.time", None, "s", 3, "failed", "npb/is.S.3.txt"),
    ]


def test_results_of_version_1_can_be_read_as_they_are(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []
    old = _old(tmp_path)
    assert read_results(tmp_path) == old
    assert read_trials(tmp_path) == []


def test_results_of_version_1_are_brought_up_to_date_and_nothing_is_lost(tmp_path: Path) -> None:
    old = _old(tmp_path)
    with Results(tmp_path, "more") as results:
        results.add(Measurement("hung.now", None, "s", status="hung"))
    assert read_results(tmp_path) == [*old, Measurement("hung.now", None, "s", status="hung")]
    with closing(sqlite3.connect(tmp_path / RESULTS_FILE)) as db:
        assert version_of(db) == VERSION
        assert db.execute("SELECT DISTINCT manifest FROM measurements").fetchall() == [("manifest.json",)]
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("DELETE FROM measurements")


@pytest.mark.parametrize("sql", [_VERSION_1, _VERSION_2])
def test_an_old_database_has_the_tables_of_a_new_one_afterwards(tmp_path: Path, sql: str) -> None:
    shapes = []
    for name in ("old", "new"):
        folder = tmp_path / name
        folder.mkdir()
        with closing(sqlite3.connect(folder / RESULTS_FILE)) as db:
            db.executescript(sql if name == "old" else "")
        with Results(folder, "x"):
            pass
        with closing(sqlite3.connect(folder / RESULTS_FILE)) as db:
            shapes.append(db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall())
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert shapes[0] == shapes[1]


def test_trials_of_version_2_are_read_as_they_are_and_kept_when_more_are_recorded(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / RESULTS_FILE)) as db:
        db.executescript(_VERSION_2)
    assert read_trials(tmp_path) == [(TRIAL, [_TIME])]
    counted = replace(TRIAL, kind="counted")
    with Results(tmp_path, "more") as results:
        assert not results.add_trial(TRIAL, (_TIME,))
        assert results.add_trial(counted, ())
        assert not results.add_trial(counted, ())
    assert read_trials(tmp_path) == [(TRIAL, [_TIME]), (counted, [])]
    assert read_results(tmp_path) == [Measurement("boot.wall", 1.5, "s")]


def test_a_trial_is_recorded_with_what_it_gave(tmp_path: Path) -> None:
    with Results(tmp_path, "run") as results:
        assert results.add_trial(TRIAL, (_TIME,))
    assert read_trials(tmp_path) == [(TRIAL, [_TIME])]
    assert read_results(tmp_path) == []


def test_of_two_equal_trials_the_first_counts(tmp_path: Path) -> None:
    with Results(tmp_path, "run") as one, Results(tmp_path, "run") as other:
        assert one.add_trial(TRIAL, (_TIME,))
        assert not other.add_trial(replace(TRIAL, host="late"), (Measurement("time", 9.0, "s"),))
    assert read_trials(tmp_path) == [(TRIAL, [_TIME])]


def test_warm_ups_may_be_taken_again(tmp_path: Path) -> None:
    warm_up = replace(TRIAL, kind="warm-up")
    with Results(tmp_path, "run") as results:
        assert results.add_trial(warm_up, ())
        assert results.add_trial(warm_up, ())
        assert results.add_trial(TRIAL, (_TIME,))


@pytest.mark.parametrize("table", ["runs", "trials", "measurements"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id + 1", "DELETE FROM {}"])
def test_no_row_can_be_changed_or_removed(tmp_path: Path, table: str, statement: str) -> None:
    with Results(tmp_path, "run") as results:
        results.add_trial(TRIAL, (_TIME,))
    with (
        closing(sqlite3.connect(tmp_path / RESULTS_FILE)) as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute(statement.format(table))


def _write(folder: Path, cores: int, count: int) -> None:
    with Results(folder, f"writer {cores}") as results:
        for number in range(1, count + 1):
            results.add_trial(replace(TRIAL, cores=cores, iteration=number), (_TIME, _TIME))


def test_two_writers_at_a_time_lose_nothing(tmp_path: Path) -> None:
    _old(tmp_path)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, cores, 40)) for cores in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    trials = read_trials(tmp_path)
    assert sorted((row.cores, row.iteration) for row, _ in trials) == [(c, i) for c in (1, 2) for i in range(1, 41)]
    assert all(len(found) == 2 for _, found in trials)
