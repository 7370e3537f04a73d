# SPDX-License-Identifier: Apache-2.0
"""Results of runs, benchmark answers and the report."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from some_run import manifest

from popcorn.config import load_machine
from popcorn.errors import HostError, UserError
from popcorn.guest.finished import Finished
from popcorn.report.page import benchmarks, compare, render
from popcorn.run import npb
from popcorn.run.bootbench import SMP, Boot, by_series, compared_plans, order, ratios, record_comparison
from popcorn.run.manifest import read_manifest
from popcorn.run.results import RESULTS_FILE, Measurement, Results, read_results
from popcorn.run.spread import figure, spread

_GOOD = b'{"benchmark": "is", "class": "S", "threads": 2, "time_s": 0.5, "mop_s": 9.0, "verified": true}\n'


def _boot_results() -> list[Measurement]:
    found = []
    for id in range(8):
        for metric, value in (("started", id), ("early", 0.1), ("running", 0.5), ("user", id + 1.0), ("wall", 1 + id)):
            found.append(Measurement(f"boot.{metric}", float(value), "s", id))
        found.append(Measurement("memory.beyond_page_array", float(10 << 20), "B", id))
    return found


def test_what_was_added_is_read_back_in_order(tmp_path: Path) -> None:
    measurements = [Measurement("boot.wall", 1.5, "s", 3), Measurement("npb.is.S.time", None, "s", 4, "failed", "x")]
    for one in measurements:
        with Results(tmp_path, "test") as results:
            results.add(one)
    assert read_results(tmp_path) == measurements


@pytest.mark.parametrize("statement", ["UPDATE measurements SET value = 1", "DELETE FROM measurements"])
def test_measurements_cannot_be_changed_afterwards(tmp_path: Path, statement: str) -> None:
    with Results(tmp_path, "test") as results:
        results.add(Measurement("m", 2.0, "s"))
    with sqlite3.connect(tmp_path / RESULTS_FILE) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)


def test_a_failed_measurement_has_no_value() -> None:
    with pytest.raises(ValueError, match="if and only if"):
        Measurement("m", 1.0, "s", status="failed")
    with pytest.raises(ValueError, match="if and only if"):
        Measurement("m", None, "s")


def test_results_of_another_schema_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / RESULTS_FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="version 99"):
        read_results(tmp_path)
    with pytest.raises(UserError, match="version 99"):
        Results(tmp_path, "test")


def test_a_file_without_tables_tells_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / RESULTS_FILE).touch()
    with pytest.raises(UserError, match="nothing was recorded") as raised:
        read_results(tmp_path)
    assert "--resume" in raised.value.hint
    with Results(tmp_path, "test"):
        pass
    assert read_results(tmp_path) == []


def test_damage_beyond_the_first_page_is_told(tmp_path: Path) -> None:
    with Results(tmp_path, "test") as results:
        results.add(*(Measurement("m", float(number), "s") for number in range(500)))
    path = tmp_path / RESULTS_FILE
    whole = path.read_bytes()
    for kept in (len(whole) // 2, 100):
        path.write_bytes(whole[:kept] + b"\xff" * (len(whole) - kept))
        with pytest.raises(UserError, match=f"cannot read the results {path}") as raised:
            read_results(tmp_path)
        assert "copy" in raised.value.hint


def test_what_does_not_fit_on_the_disk_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    with Results(tmp_path, "test") as results:
        results.add(Measurement("m", 1.0, "s"))
        # SQLite says the same of a disk that is full.
        results._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(HostError, match="is full"):
            results.add(*(Measurement("m", float(number), "s") for number in range(5000)))
    assert read_results(tmp_path) == [Measurement("m", 1.0, "s")]


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    manifest().save(tmp_path)
    assert read_manifest(tmp_path) == manifest()


def test_a_folder_without_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no manifest"):
        read_manifest(tmp_path)


def test_a_verified_answer_gives_time_and_rate() -> None:
    answer = npb.parse(2, "is", "S", Finished((), 0, _GOOD, b""))
    assert answer.verified
    assert [one.value for one in npb.measurements(answer, "raw")] == [0.5, 9.0]


@pytest.mark.parametrize(
    ("done", "status"),
    [
        (Finished((), 1, _GOOD.replace(b"true", b"false"), b""), "failed"),
        (Finished((), 1, _GOOD, b""), "failed"),
        (Finished((), 0, _GOOD.replace(b'"is"', b'"cg"'), b""), "failed"),
        (Finished((), 0, _GOOD[:40], b""), "void"),
        (Finished((), 125, b"", b"kernel 2 does not answer"), "void"),
    ],
)
def test_an_answer_that_is_not_verified_gives_no_time(done: Finished, status: str) -> None:
    answer = npb.parse(2, "is", "S", done)
    assert not answer.verified
    assert answer.complaint
    assert [(one.value, one.status) for one in npb.measurements(answer, "raw")] == [(None, status)]


def test_every_kernel_of_a_mixed_machine_is_in_the_manifest_and_the_report(tmp_path: Path) -> None:
    own = manifest().kernel
    other = own.model_copy(update={"release": "3.2.0-popcorn", "series": "3.2", "base": "3.2.0", "key": "other"})
    mixed = manifest().model_copy(update={"others": dict.fromkeys(range(1, 8), other)})
    mixed.save(tmp_path)
    assert read_manifest(tmp_path).others[7].release == "3.2.0-popcorn"
    assert mixed.distinct_kernels() == [own, other]
    page = render(mixed, _boot_results(), "a run")
    assert "(6.12.0-popcorn, default; 3.2.0-popcorn, default)" in page
    assert page.count("<code>other</code>") == 1


def test_the_report_is_one_page_that_loads_nothing() -> None:
    page = render(manifest(), _boot_results(), "a run")
    assert "src=" not in page
    assert "<link" not in page
    assert "&lt;c &amp; d&gt;" in page
    assert "Times compare only within one run" in page


def test_failed_measurements_are_told_and_in_no_average() -> None:
    failed = Measurement("boot.wall", None, "s", 9, "void")
    page = render(manifest(), [*_boot_results(), failed], "a run")
    assert "1 measurement is void or failed" in page
    assert compare(manifest(), [*_boot_results(), failed], "boot.wall") == compare(
        manifest(), _boot_results(), "boot.wall"
    )


def _answers(*verified: bool) -> list[Measurement]:
    return [
        one
        for kernel, said in enumerate(verified)
        for one in npb.measurements(npb.NpbAnswer(kernel, "is", "S", said, 1, 0.5, 9.0), f"npb/{kernel}.txt")
    ]


def test_a_benchmark_has_a_row_for_each_kernel_and_counts_what_was_verified() -> None:
    (found,) = benchmarks([*_boot_results(), *_answers(True, False)])
    assert (found.name, found.verified) == ("IS class S", 1)
    assert [(row.kernel, row.time.value, row.rate and row.rate.value) for row in found.rows] == [
        (0, 0.5, 9.0),
        (1, None, None),
    ]


def test_the_report_says_how_many_kernels_were_verified_and_leads_to_what_they_said() -> None:
    page = render(manifest(), [*_boot_results(), *_answers(True, False)], "a run")
    assert '<span class="bad">1</span> of 2' in page
    assert 'href="npb/1.txt"' in page


def test_the_last_kernel_is_compared_with_the_second_launched_one() -> None:
    found = compare(manifest(), _boot_results(), "boot.wall")
    assert found is not None
    assert (found.early, found.late, found.ratio) == (2, 7, 8 / 3)


def test_the_order_of_boots_alternates() -> None:
    assert order("per-core", 3) == [SMP, "per-core", "per-core", SMP, SMP, "per-core"]


def test_all_that_is_booted_for_a_comparison_goes_by_the_same_clock() -> None:
    plans = compared_plans(load_machine("paper"), "per-socket")
    assert list(plans) == [SMP, "per-socket"]
    lines = [partition.cmdline.split() for plan in plans.values() for partition in plan.partitions]
    assert len(lines) == 1 + 4
    assert all("tsc=reliable" in line for line in lines)


def test_ratios_compare_boots_pair_by_pair() -> None:
    boots = [
        Boot("p", 2, 6, Path(), ()),
        Boot(SMP, 1, 2, Path(), ()),
        Boot(SMP, 2, 2, Path(), ()),
        Boot("p", 8, 2, Path(), ()),
    ]
    assert ratios(boots, "p") == ([2.0, 4.0], [3.0, 1.0])


def test_boots_of_several_series_are_told_apart(tmp_path: Path) -> None:
    boots = [Boot(one, 2, 2, Path(), (), each) for one in (SMP, "p") for each in ("6.12", "3.2")]
    assert {series: len(own) for series, own in by_series(boots).items()} == {"6.12": 2, "3.2": 2}
    record_comparison(tmp_path, boots, "p")
    metrics = [one.metric for one in read_results(tmp_path)]
    assert "bench.3.2.p.wall" in metrics
    assert metrics.count("bench.6.12.p/smp.cpu") == 1


def test_spreads_have_the_digits_that_can_mean_something() -> None:
    assert str(spread([3.0, 1.0, 2.0])) == "2.00 (1.00-3.00)"
    assert str(spread([5.0, 5.0])) == "5.00"
    values = (1234.5, 12.34, 0.123, 0.00456, 0.000062, 0.0)
    assert [figure(value) for value in values] == ["1234", "12.3", "0.12", "0.0046", "0.00006", "0"]
