# SPDX-License-Identifier: Apache-2.0
"""`popcorn ci`: pytest is the real one, on suites of a few lines; nothing is built, and experiments are stand-ins."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import ANY

import psutil
import pytest
from click.testing import CliRunner, Result
from junit_schema import complaints
from markdown_it import MarkdownIt

from popcorn import hostpackages, junit
from popcorn.ci import steps
from popcorn.ci.job import Job, Wanted, check
from popcorn.ci.summary import cell
from popcorn.cli.ci import ci
from popcorn.errors import UserError
from popcorn.process import Completed
from popcorn.testing import collect
from popcorn.testing.tell import read_unended, read_verdicts
from popcorn.testing.verdict import Outcome, TestVerdict

_SUITE = """
import os
from popcorn.errors import MachineLostError

def runs():
    with open(os.environ["COUNT"], "a") as out: out.write(".")
    return len(open(os.environ["COUNT"]).read())

def test_fine(): pass
def test_tried(): {body}
"""
_FAILED = TestVerdict("test_it.py::test_tried", Outcome.FAILED, "AssertionError: 1 == 2", fails=2, runs=2)
_FLAKY = TestVerdict("test_it.py::test_tried", Outcome.FLAKY, "AssertionError", fails=1, runs=2)
_FINE = TestVerdict("test_it.py::test_tried", Outcome.PASSED)

_BUILD = steps.build
_REQUIRE_TESTS = collect.require_tests

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _nothing_is_installed_or_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostpackages, "ensure", lambda _what: None)
    monkeypatch.setattr(steps, "build", lambda _job: (Outcome.PASSED, "6.12.0"))
    monkeypatch.setattr(collect, "require_tests", lambda _words, **_: None)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command, with tests that come to what is told."""

    def invoke(verdict: TestVerdict, *words: str, output: str = "out") -> Result:
        def tests(job: Job) -> steps.Found:
            (job.folder / "verdicts.jsonl").write_text(json.dumps(verdict.to_dict()) + "\n")
            return verdict.outcome, ""

        monkeypatch.setattr(steps, "tests", tests)
        return CliRunner().invoke(ci, ["--output", str(tmp_path / output), *words], standalone_mode=False)

    return invoke


def _summary(tmp_path: Path, output: str = "out") -> str:
    return (tmp_path / output / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("body", "status", "title", "section"),
    [
        ("pass", 0, "fine", "## Steps"),
        ("assert 1 == 2", 1, "regression", "## Regressions: tests that fail"),
        ("raise MachineLostError('QEMU was killed')", 3, "infrastructure failure", "## Infrastructure failures"),
        ("assert runs() % 2 == 0", 4, "flaky", "## Flaky tests"),
    ],
)
def test_each_outcome_has_a_status_and_a_section(
    body: str, status: int, title: str, section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    suite = tmp_path / "test_it.py"
    suite.write_text(_SUITE.format(body=body))
    argv = ["--suite", str(suite), "--output", str(tmp_path / "out"), "-n", "0", "--repeats", "2"]
    assert CliRunner().invoke(ci, argv, standalone_mode=False).return_value == status
    page = _summary(tmp_path)
    assert page.startswith(f"# Popcorn CI: {title}\n")
    assert next(line for line in page.splitlines() if line.startswith("## ")) == section
    assert ("1 of 2 repetitions failed: 50%, 95 % interval 1% to 99%" in page) == (status == 4)
    assert "had not ended" not in page
    assert json.loads((tmp_path / "out" / "ci.json").read_text())["status"] == status
    for report in (tmp_path / "out" / "junit").iterdir():
        assert complaints(report) == []


def test_a_pytest_that_ends_too_early_is_no_success_and_what_had_ended_is_in_the_report(tmp_path: Path) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text("import os\ndef test_fine(): pass\ndef test_out(): os._exit(0)\n")
    argv = ["--suite", str(suite), "--output", str(tmp_path / "out"), "-n", "0"]
    assert CliRunner().invoke(ci, argv, standalone_mode=False).return_value == 3
    assert "pytest ended without a report; by then: 1 passed" in _summary(tmp_path)
    report = tmp_path / "out" / "junit" / "tests.xml"
    assert complaints(report) == []
    assert "test_fine" in report.read_text()
    assert junit.total([tmp_path / "out" / "junit" / "ci.xml"]) == junit.Totals(passed=1, errors=1, elapsed_s=ANY)


def test_what_failed_before_stands_behind_what_did_not(run: Run, tmp_path: Path) -> None:
    run(_FAILED, output="base")
    assert run(_FAILED, "--baseline", str(tmp_path / "base")).return_value == 1
    page = _summary(tmp_path)
    assert "## Tests that failed in the baseline, too" in page
    assert "## Regressions" not in page
    run(_FINE, output="good")
    run(_FAILED, "--baseline", str(tmp_path / "good"), output="new")
    assert "## Regressions: tests that fail and did not in the baseline" in _summary(tmp_path, "new")


def test_the_summary_goes_where_it_is_wanted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_file = tmp_path / "github"
    steps_file.write_text("of another step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(steps_file))
    run(_FINE, "--summary", str(tmp_path / "page.md"))
    assert (tmp_path / "page.md").read_text() == _summary(tmp_path)
    assert steps_file.read_text() == f"of another step\n{_summary(tmp_path)}\n"


def test_what_does_not_build_is_a_regression_and_nothing_else_is_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "build", lambda _job: (Outcome.FAILED, "does not build: a.c: expected ';'"))
    assert run(_FINE, "--experiment", "quick").return_value == 1
    page = _summary(tmp_path)
    assert page.index("## Regression: build") < page.index("## Steps")
    assert "| tests | skipped |" in page
    assert not (tmp_path / "out" / "tests.log").exists()
    report = tmp_path / "out" / "junit" / "ci.xml"
    assert complaints(report) == []
    assert junit.total([report]) == junit.Totals(failed=1, skipped=2, elapsed_s=ANY)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--suite", "nowhere"), "there are no tests 'nowhere'"),
        (("--experiment", "fig99"), "unknown experiment 'fig99'"),
        (("--thresholds", "none.toml"), "cannot read the thresholds"),
        (("--baseline", "."), "is no baseline"),
        (("--series", "9.9"), "there is no series '9.9'"),
        (("--flavour", "purple"), "has no flavour 'purple'"),
        (("--source", "nowhere"), "the kernel source nowhere is not there"),
        (("-n", "many"), "-n many is no number"),
        (("-n", "-1"), "-n -1 is no number"),
        (("--no-tests", "-k", "x"), "--no-tests and -k contradict each other"),
        (("--summary", "/proc/page.md"), "cannot write to /proc"),
    ],
)
def test_the_users_mistakes_are_told_and_nothing_is_begun(
    words: Sequence[str], cause: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "build", lambda _job: pytest.fail("begun"))
    result = run(_FINE, *words)
    assert isinstance(result.exception, UserError)
    assert cause in str(result.exception)
    assert list((tmp_path / "out").glob("*")) == []


def test_results_that_cannot_be_written_are_the_users_mistake(run: Run) -> None:
    result = run(_FINE, output="/proc/out")
    assert isinstance(result.exception, UserError)
    assert "cannot write to /proc/out" in str(result.exception)


def test_of_two_that_begin_at_once_one_gets_the_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostpackages, "ensure", lambda _: (tmp_path / "out" / "ci.json").write_text("of another"))
    result = run(_FINE, "--summary", str(tmp_path / "page.md"))
    assert isinstance(result.exception, UserError)
    assert "another `popcorn ci` writes to" in str(result.exception)
    assert (tmp_path / "out" / "ci.json").read_text() == "of another"
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "cannot read"),
        (b"\xff", "cannot read"),
        (b"[]", "has version None"),
        (b'{"version": 2}', "has version 2; this Popcorn reads version 1"),
        (b'{"version": 1}', "popcorn: Field required"),
    ],
)
def test_a_baseline_that_cannot_be_read_is_the_users_mistake(
    content: bytes, cause: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "ci.json").write_bytes(content)
    error = run(_FINE, "--baseline", str(tmp_path / "base")).exception
    assert isinstance(error, UserError)
    assert cause in str(error)
    assert "run without --baseline" in error.hint


def test_a_baseline_whose_measurements_cannot_be_read_is_the_users_mistake(
    run: Run, measured: list[float], tmp_path: Path
) -> None:
    run(_FINE, "--experiment", "quick", output="base")
    (tmp_path / "base" / "runs" / "quick" / "results.sqlite").write_text("garbage")
    error = run(_FINE, "--experiment", "quick", "--baseline", str(tmp_path / "base")).exception
    assert isinstance(error, UserError)
    assert "quick cannot be compared with the baseline" in str(error)
    # Where nothing would be compared with them they are no matter.
    assert run(_FINE, "--experiment", "fig12", "--baseline", str(tmp_path / "base")).return_value == 0


def test_a_summary_that_cannot_be_handed_out_changes_no_verdict(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/full")
    result = run(_FAILED)
    assert result.return_value == 1
    assert "the summary stands in" in result.stderr


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--suite", "test_it.py", "-k", "other"), "there are no such tests"),
        (("--suite", "test_it.py", "-k", "a b ("), "Wrong expression passed to '-k'"),
        (("--suite", "test_it.py::test_other"), "not found"),
    ],
)
def test_a_selection_of_no_tests_is_told_before_anything_is_built(
    words: tuple[str, ...], cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "require_tests", _REQUIRE_TESTS)
    monkeypatch.setattr(steps, "build", lambda _job: pytest.fail("built"))
    monkeypatch.chdir(tmp_path)
    Path("test_it.py").write_text("def test_fine(): pass\n")
    error = CliRunner().invoke(ci, ["--output", "out", *words], standalone_mode=False).exception
    assert isinstance(error, UserError)
    assert cause in str(error)
    assert list(Path("out").iterdir()) == []


def test_a_suite_of_which_nothing_is_left_when_it_runs_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_fine(): pass\n")
    argv = ["--suite", str(tmp_path / "test_it.py"), "--output", str(tmp_path / "out"), "-k", "other", "-n", "0"]
    error = CliRunner().invoke(ci, argv, standalone_mode=False).exception
    assert isinstance(error, UserError)
    assert "there are no such tests" in str(error)


@pytest.mark.parametrize(
    ("statuses", "outcome", "detail"),
    [
        ([0], Outcome.PASSED, ""),
        ([3, -9, 0], Outcome.PASSED, ""),
        ([3, 3, 3], Outcome.LOST, "`popcorn run` ended with status 3"),
        ([143], Outcome.LOST, "`popcorn run` ended with status 143"),
        ([1], Outcome.LOST, "`popcorn run` ended with status 1, though no trial is without a value"),
    ],
)
def test_an_experiment_that_the_host_lost_goes_on_and_is_blamed_on_nobody(
    statuses: list[int], outcome: Outcome, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[list[str]] = []

    def popcorn_run(_job: Job, argv: list[str], _log: str, **_: object) -> Completed:
        typed.append(argv[argv.index("run") + 1 :])
        place = tmp_path / "out" / "runs" / "quick" / "1"
        place.mkdir(parents=True, exist_ok=True)
        for name in ("experiment.json", "results.sqlite"):
            (place / name).touch()
        return Completed(tuple(argv), statuses[len(typed) - 1], b"", b"", 0.0)

    monkeypatch.setattr(steps, "_run", popcorn_run)
    monkeypatch.setattr(steps, "read_trials", lambda _: [])
    found = steps.experiment(check(Wanted(experiments=("quick",), retries=2), tmp_path / "out"), "quick")
    run_dir = tmp_path / "out" / "runs" / "quick" / "1"
    assert found == (outcome, detail, run_dir)
    assert typed == [["quick", "--series", "6.12"], *[["--resume", str(run_dir)]] * (len(statuses) - 1)]


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("status", [1, 2])
def test_a_suite_that_cannot_be_collected_is_no_regression(workers: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "test_bad.py").write_text("import no_such_module\n")
    (tmp_path / "test_it.py").write_text(f"def test_tried(): assert {status} == 2\n")
    argv = ["--suite", str(tmp_path), "--output", str(tmp_path / "out"), "-n", workers, "--repeats", "0"]
    result = CliRunner().invoke(ci, argv, standalone_mode=False)
    if status == 1 and workers != "0":
        # What is known to be broken stays so.
        assert result.return_value == 1
        assert "1 failed; and pytest could not run all tests" in _summary(tmp_path)
    else:
        assert isinstance(result.exception, UserError)
        assert "pytest cannot run the tests" in str(result.exception)


def test_results_of_an_earlier_run_are_not_mixed_with(run: Run) -> None:
    run(_FINE)
    assert "holds something already" in str(run(_FINE).exception)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stand-in for an experiment, which measures so many messages."""
    from some_run import manifest

    from popcorn.run.results import Measurement, Results

    messages = [1000.0]

    def experiment(job: Job, name: str) -> tuple[Outcome, str, Path | None]:
        run_dir = job.folder / "runs" / name
        run_dir.mkdir(parents=True)
        manifest().save(run_dir)
        with Results(run_dir, name) as results:
            results.add(Measurement("count.messages", messages[0], ""))
        return Outcome.PASSED, "", run_dir

    monkeypatch.setattr(steps, "experiment", experiment)
    return messages


def test_the_summary_is_markdown_whose_tables_hold_whatever_a_test_says(
    run: Run, measured: list[float], tmp_path: Path
) -> None:
    run(_FINE, "--experiment", "quick", output="base")
    measured[0] = 1100.0
    nasty = dataclasses.replace(_FLAKY, title="a | b\n## no heading <b>``` `")
    run(nasty, "--experiment", "quick", "--baseline", str(tmp_path / "base"))
    tokens = MarkdownIt().enable("table").parse(_summary(tmp_path))
    headings = [tokens[index + 1].content for index, one in enumerate(tokens) if one.type == "heading_open"]
    assert headings == ["Popcorn CI: regression", "Regressions: measured", "Flaky tests", "Steps"]
    kinds = Counter(one.type for one in tokens)
    # Worse points, flaky tests, steps: with 10, 4 and 4 columns, and 1, 1 and 4 rows behind their headings.
    assert (kinds["table_open"], kinds["tr_open"], kinds["td_open"]) == (3, 9, 10 + 4 + 16)
    assert "<b>" not in MarkdownIt().enable("table").render(_summary(tmp_path))


def test_a_worse_count_is_a_regression_and_stands_first(run: Run, measured: list[float], tmp_path: Path) -> None:
    assert run(_FINE, "--experiment", "quick", output="base").return_value == 0
    measured[0] = 1100.0
    (tmp_path / "t.toml").write_text('[[rule]]\nmetric = "count.mesages"\nkind = "told"\nworse = 0\n')
    words = ("--baseline", str(tmp_path / "base"), "--thresholds", str(tmp_path / "t.toml"))
    result = run(_FLAKY, "--experiment", "quick", *words)
    assert result.return_value == 1
    sections = [line for line in _summary(tmp_path).splitlines() if line.startswith("## ")]
    assert sections == ["## Regressions: measured", "## Flaky tests", "## Steps"]
    assert "| count.messages | benchmark | - | - | 1000 | 1100 | 1.10 |" in _summary(tmp_path)
    assert "that fit nothing that was measured: count.mesages." in _summary(tmp_path)
    assert complaints(tmp_path / "out" / "junit" / "ci.xml") == []


def test_a_baseline_may_have_been_moved(run: Run, measured: list[float], tmp_path: Path) -> None:
    run(_FINE, "--experiment", "quick", output="base")
    shutil.move(tmp_path / "base", tmp_path / "elsewhere")
    run(_FINE, "--experiment", "quick", "--baseline", str(tmp_path / "elsewhere"))
    assert "| compare quick | passed |" in _summary(tmp_path)


def test_sigterm_ends_everything_and_leaves_what_had_ended(tmp_path: Path) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text("import time\ndef test_fine(): pass\ndef test_long(): time.sleep(7653)\n")
    script = (
        "import sys; from popcorn import hostpackages; from popcorn.ci import steps; from popcorn.cli.main import main;"
        "from popcorn.testing.verdict import Outcome;"
        "hostpackages.ensure = lambda _: None; steps.build = lambda _: (Outcome.PASSED, '');"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["ci", "--suite", str(suite), "--output", str(tmp_path / "out"), "-n", "2"]
    argv = [sys.executable, "-P", "-c", script, *words]
    env = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH") or str(Path(steps.__file__).parents[2])}
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        verdicts = tmp_path / "out" / "verdicts.jsonl"
        while not (read_verdicts(verdicts) and read_unended(verdicts)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3, "pytest and its two workers"
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(family, timeout=3)
    assert alive == []
    page = (tmp_path / "out" / "summary.md").read_text()
    assert page.startswith("# Popcorn CI: stopped\n")
    assert "**Partial results: stopped by SIGTERM during tests.**" in page
    record = json.loads((tmp_path / "out" / "ci.json").read_text())
    assert (record["stopped"], record["status"]) == ("SIGTERM during tests", None)
    assert "| tests | skipped |" in page
    assert "stopped before its end; by then: 1 passed" in page
    report = tmp_path / "out" / "junit" / "tests.xml"
    assert complaints(report) == []
    assert "test_fine" in report.read_text()
    assert "partial results" in report.read_text()
    # What hangs is named.
    assert re.search(r"## Tests that had not ended\n\n- \S*test\\_it.py::test\\_long\n", page)
    assert "test_long" in report.read_text()


def test_text_in_a_table_means_what_it_says() -> None:
    assert cell("a|b <x> `c`\nd") == r"a\|b &lt;x&gt; \`c\` d"
    said = "\x1b[31m# \x00~~a~~ \u202eb\udcff https://example.org www.example.org <b>"
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(cell(said))
    assert rendered == "<p># ~~a~~ b https://example.org www.example.org &lt;b&gt;</p>\n"
    assert not re.search(r"://|www\.", cell(said)), "where GitHub makes links of these"
    assert len(cell("x" * 100_000)) < 1000


@pytest.mark.parametrize("end", ["\r\r", "\n\n", "\x85\x85", "\u2028\u2028"])
def test_no_test_gets_out_of_its_place_in_the_summary(end: str, run: Run, tmp_path: Path) -> None:
    nasty = f"it {end}## no heading{end}</details><a href=x>{end}```{end}## none{end}\udcff"
    run(dataclasses.replace(_FAILED, test=f"test_it.py::{nasty}", title=nasty, text=nasty))
    tokens = MarkdownIt().enable("table").parse(_summary(tmp_path))
    headings = [tokens[index + 1].content for index, one in enumerate(tokens) if one.type == "heading_open"]
    assert headings == ["Popcorn CI: regression", "Regressions: tests that fail", "Steps"]
    assert "<a href" not in MarkdownIt().enable("table").render(_summary(tmp_path))
