# SPDX-License-Identifier: Apache-2.0
"""JUnit reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from junit_schema import complaints

from popcorn import junit
from popcorn.cli.test import _complete_reports


def test_reports_are_added_up(tmp_path: Path) -> None:
    cases = [junit.Case("a", "", True, 1.0), junit.Case("b", "why \x1b[31m<red>\x1b[0m \x00", False, 0.5)]
    junit.write(tmp_path / "one.xml", "one", cases)
    junit.write(tmp_path / "two.xml", "two", [junit.Case("c", "", True, 0.25)])
    assert complaints(tmp_path / "one.xml") == complaints(tmp_path / "two.xml") == []
    totals = junit.total([tmp_path / "one.xml", tmp_path / "two.xml"])
    assert totals == junit.Totals(passed=2, failed=1, elapsed_s=1.75)
    assert "why <red>" in (tmp_path / "one.xml").read_text().replace("&lt;", "<").replace("&gt;", ">")


def test_whatever_a_kernel_says_makes_a_report_that_can_be_read(tmp_path: Path) -> None:
    said = "\x00\x1b[1m\x0b\ud800\udcff\ufffe ]]></failure> \r\n"
    junit.write(tmp_path / "r.xml", "one", [junit.Case(said, said, False, 1.0)])
    assert complaints(tmp_path / "r.xml") == []


def test_what_the_host_lost_is_an_error_and_what_was_left_out_is_skipped(tmp_path: Path) -> None:
    cases = [
        junit.Case("a", "QEMU was killed\n…", False, 1.0, "error"),
        junit.Case("b", "no KVM", False, 0.0, "skipped"),
    ]
    junit.write(tmp_path / "r.xml", "one", cases)
    assert complaints(tmp_path / "r.xml") == []
    assert junit.total([tmp_path / "r.xml"]) == junit.Totals(errors=1, skipped=1, elapsed_s=1.0)
    assert 'message="QEMU was killed"' in (tmp_path / "r.xml").read_text()


@pytest.mark.parametrize("content", [None, "", "<testsuites><testsuite", "<html/>"])
def test_a_report_that_is_cut_short_is_not_whole(content: str | None, tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    if content is not None:
        report.write_text(content)
    assert not junit.is_whole(report)
    junit.write(report, "one", [])
    assert junit.is_whole(report)


def test_a_suite_whose_report_is_cut_short_has_failed(tmp_path: Path) -> None:
    (tmp_path / "unit.xml").write_text("<testsuites><tests")
    _complete_reports(tmp_path, ("unit",), tmp_path / "none.json")
    assert junit.total([tmp_path / "unit.xml"]).failed == 1
    assert "its report was cut short" in (tmp_path / "unit.xml").read_text()


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
