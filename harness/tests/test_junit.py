# SPDX-License-Identifier: Apache-2.0
"""JUnit reports."""

from __future__ import annotations

from pathlib import Path

from junit_schema import complaints

from popcorn import junit


def test_reports_are_added_up(tmp_path: Path) -> None:
    cases = [junit.Case("a", "", True, 1.0), junit.Case("b", "why \x1b[31m<red>\x1b[0m \x00", False, 0.5)]
    junit.write(tmp_path / "one.xml", "one", cases)
    junit.write(tmp_path / "two.xml", "two", [junit.Case("c", "", True, 0.25)])
    assert complaints(tmp_path / "one.xml") == complaints(tmp_path / "two.xml") == []
    totals = junit.total([tmp_path / "one.xml", tmp_path / "two.xml"])
    assert totals == junit.Totals(passed=2, failed=1, elapsed_s=1.75)
    assert "why <red>" in (tmp_path / "one.xml").read_text().replace("&lt;", "<").replace("&gt;", ">")


def test_a_report_of_pytests_is_understood(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" time="4.5"/></testsuites>'
    )
    assert junit.total([tmp_path / "r.xml"]) == junit.Totals(4, 2, 1, 3, 4.5)


def test_only_what_the_host_lost_is_nobodys_failure(tmp_path: Path) -> None:
    lost = junit.Case("a", "", False, 1.0)
    junit.write(tmp_path / "a.xml", "one", [lost])
    assert not junit.only_lost([tmp_path / "a.xml"])
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "b.xml").write_text(text.replace("a failed", f"{junit.LOST}2 runs"))
    assert junit.only_lost([tmp_path / "b.xml"])
    assert not junit.only_lost([tmp_path / "a.xml", tmp_path / "b.xml"])
    assert not junit.only_lost([])


def test_the_schema_is_applied(tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    report.write_text(
        '<testsuites><testsuite name="x" tests="2" failures="0" errors="0" colour="red">'
        '<testcase name="a" time="soon"><failure/><properties/></testcase></testsuite></testsuites>'
    )
    assert sorted(complaints(report)) == [
        "attribute colour of testsuite",
        "properties in testcase",
        "time 'soon' of testcase",
        "x tells 0 failures and has 1",
        "x tells 2 tests and has 1",
    ]


def test_the_summary_reads_like_pytests() -> None:
    assert junit.Totals(12, 1, 0, 3, 4.5).summary_line().strip("= ") == "1 failed, 12 passed, 3 skipped in 4.50s"
    assert junit.Totals().summary_line().strip("= ") == "no tests ran in 0.00s"
