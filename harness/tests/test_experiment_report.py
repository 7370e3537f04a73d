# SPDX-License-Identifier: Apache-2.0
"""The report of an experiment, and its results for other programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from experiment_fakes import Stage, staged, taken_run

from popcorn.errors import UserError
from popcorn.experiment.record import DESCRIPTION_FILE, RECORD_FILE, begin_record
from popcorn.report.experiment import warnings, write_experiment_report
from popcorn.report.points import ratio_table, read_run
from popcorn.run.export import COLUMNS, Form, export, query
from popcorn.run.results import RESULTS_FILE, Results


def test_the_page_loads_nothing_and_has_figures_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_experiment_report([taken_run(tmp_path, monkeypatch)]).read_text(encoding="utf-8")
    assert "src=" not in page
    assert "<link" not in page
    assert "url(http" not in page
    assert page.count("<svg") == 1 + 2
    assert (tmp_path / "figures" / "figure-1.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (tmp_path / "figures" / "figure-1.pdf").read_bytes().startswith(b"%PDF")


def test_claims_stand_beside_what_the_data_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_experiment_report([taken_run(tmp_path, monkeypatch)]).read_text(encoding="utf-8")
    assert "“The other takes &lt;twice&gt; as long”" in page
    assert '<span class="answer">differs</span>' in page
    assert "judged as other / one ≥ 1.5 and ≤ 2.5 at all of 1, 2 cores" in page
    assert "no difference seen" in page
    assert "popcorn run test --series 6.12 --seed 1 --accel tcg" in page


def test_what_is_unlike_the_paper_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read_run(taken_run(tmp_path, monkeypatch))
    assert not any("paper" in one for one in warnings(data))
    own = {"kind": "scripted", "class": "A"}
    described = data.experiment.model_copy(update={"paper": "figure 9", "iterations": 20, "workloads": (own,)})
    record = data.record.model_copy(update={"wanted": {**data.record.wanted, "size": "S"}})
    told = warnings(dataclasses.replace(data, experiment=described, record=record))
    assert (
        "Other than in the paper: class S in place of A; 3 iterations in place of 20. The claims are about that "
        "of the paper." in told
    )


def test_a_run_that_lost_its_description_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = taken_run(tmp_path, monkeypatch)
    (run_dir / DESCRIPTION_FILE).unlink()
    with pytest.raises(UserError, match=r"has lost its experiment\.toml"):
        read_run(run_dir)
    (run_dir / RECORD_FILE).unlink()
    with pytest.raises(UserError, match="is no run of an experiment"):
        read_run(run_dir)


def test_a_trial_without_a_value_is_told_and_in_no_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = taken_run(tmp_path, monkeypatch, lose=3)
    page = write_experiment_report([run_dir]).read_text(encoding="utf-8")
    assert "<b>void</b>: the answer is wrong" in page
    assert sorted(one.count for one in read_run(run_dir).estimates.values()) == [2, 3, 3, 3]


def test_warm_ups_are_in_no_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read_run(taken_run(tmp_path, monkeypatch))
    assert len(data.warm_ups) == 2
    assert all(one.count == 3 for one in data.estimates.values())


def test_runs_are_compared_point_by_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = taken_run(tmp_path / "a", monkeypatch), taken_run(tmp_path / "b", monkeypatch)
    page = write_experiment_report([one, other], compare=other).read_text(encoding="utf-8")
    assert page.count("Against run b") == 2
    assert (one / "figures" / "2-figure-1.svg").is_file()


def test_the_first_system_is_the_baseline_without_smp_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = ratio_table(read_run(taken_run(tmp_path, monkeypatch)))
    assert [row[1] for row in rows] == ["other / one"] * 2


def test_a_run_without_trials_has_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = staged(monkeypatch, Stage())()
    begin_record(ready, "tcg", ["popcorn"], tmp_path)
    with pytest.raises(UserError, match="has no results"):
        write_experiment_report([tmp_path])
    with Results(tmp_path, "run"):
        pass
    with pytest.raises(UserError, match="there is nothing to report"):
        write_experiment_report([tmp_path])
    with pytest.raises(UserError, match="no measurements to export"):
        export([tmp_path], "csv", None)


def test_results_of_a_newer_version_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_record(staged(monkeypatch, Stage())(), "tcg", ["popcorn"], tmp_path)
    with closing(sqlite3.connect(tmp_path / RESULTS_FILE)) as db:
        db.execute("PRAGMA user_version = 99")
    for read in (lambda: read_run(tmp_path), lambda: export([tmp_path], "csv", None), lambda: query(tmp_path, "x")):
        with pytest.raises(UserError, match="has schema version 99; this Popcorn reads version 3"):
            read()


def test_an_export_has_a_row_for_each_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = taken_run(tmp_path, monkeypatch)
    count = export([run_dir], "csv", None)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == count
    assert list(rows[0]) == list(COLUMNS)
    measured = [row for row in rows if row["kind"] == "measured" and row["metric"] == "time"]
    assert sorted({(row["system"], row["cores"]) for row in measured}) == [
        (system, cores) for system in ("one", "other") for cores in "12"
    ]
    assert all((run_dir / row["manifest"]).is_file() and (run_dir / row["raw"]).is_file() for row in rows)


def test_parquet_has_the_same_rows_with_their_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    run_dir = taken_run(tmp_path / "run", monkeypatch, lose=3)
    target = tmp_path / "out" / "all.parquet"
    count = export([run_dir], "parquet", target)
    with duckdb.connect() as db:
        found = db.read_parquet(str(target))
        assert dict(zip(found.columns, map(str, found.types), strict=True)) == COLUMNS
        assert len(found.fetchall()) == count
        lost = db.sql(f"SELECT value, status, reason FROM '{target}' WHERE status <> 'ok'").fetchall()
    assert lost == [(None, "void", "the answer is wrong")]
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_to_where_no_file_can_be_names_the_place(
    form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = taken_run(tmp_path, monkeypatch)
    target = run_dir / RESULTS_FILE / "rows"
    with pytest.raises(UserError, match=f"cannot write {target}: ") as raised:
        export([run_dir], form, target)
    assert "--output" in raised.value.hint


def test_results_can_be_asked_in_sql_and_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = taken_run(tmp_path, monkeypatch)
    header, rows = query(run_dir, "SELECT system, count(*) AS n FROM trials WHERE kind = 'measured' GROUP BY system")
    assert (header, rows) == (["system", "n"], [("one", 6), ("other", 6)])
    with pytest.raises(UserError, match="readonly"):
        query(run_dir, "DROP TABLE trials")
    with pytest.raises(UserError, match="no such table") as raised:
        query(run_dir, "SELECT * FROM trial")
    assert "trials (id, run, boot" in raised.value.hint
    other = tmp_path / "other.sqlite"
    with pytest.raises(UserError, match="attached"):
        query(run_dir, f"ATTACH '{other}' AS other")
    assert not other.exists()


def test_large_values_are_written_out_beside_an_axis() -> None:
    from popcorn.experiment.estimate import estimate
    from popcorn.report.lines import Line, draw

    drawing = draw([Line("x", {1: estimate([9.0]), 2: estimate([4000.0])})], "cores", "MB/s")
    (axes,) = drawing.figure.axes
    drawing.figure.canvas.draw()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "4096" in labels
    assert not [label for label in labels if "e" in label]
