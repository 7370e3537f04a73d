# SPDX-License-Identifier: Apache-2.0
"""What a run that did not pass is put down to: the kernel, its sources, or the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from popcorn.bisect.classify import build_failure, failure, read_junit
from popcorn.bisect.evidence import Run, Sought, Stage, tally
from popcorn.bisect.sequential import Counts, Evidence, Rates, rate_below
from popcorn.bisect.shift import Shift
from popcorn.bisect.trial import selection, suite_outcome
from popcorn.build.buildlog import FirstError
from popcorn.build.kbuild import KernelBuildError
from popcorn.diagnose.kinds import Kind
from popcorn.diagnose.recorded import MachineDiagnosis
from popcorn.diagnose.verdict import Diagnosis
from popcorn.errors import HostError, UserError

_JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="{errors}" failures="{failures}" skipped="{skipped}" tests="3">
<testcase classname="testsuites.test_x" name="test_a[6.12]" time="1.0" />
{cases}
</testsuite></testsuites>
"""
FAILED = '<testcase name="test_b"><failure message="AssertionError: assert 4 == 5">text</failure></testcase>'
LOST = (
    '<testcase name="test_c"><error message="failed on setup with &quot;popcorn.errors.MachineLostError: QEMU ended'
    '&quot;">text</error></testcase>'
)
STUCK = (
    '<testcase name="test_c"><error message="failed on setup with &quot;popcorn.errors.GuestError: kernel 3 got stuck'
    '&quot;">text</error></testcase>'
)


def report(tmp_path: Path, *cases: str) -> Path:
    path = tmp_path / "junit.xml"
    path.write_text(_JUNIT.format(errors=0, failures=0, skipped=0, cases="\n".join(cases)))
    return path


def machine(kind: Kind = Kind.FINE, title: str = "fine", infrastructure: str = "") -> MachineDiagnosis:
    kernel = Diagnosis(3, kind, title, "running", "user", 1)
    return MachineDiagnosis(Path("/run"), (kernel,), infrastructure)


def test_a_compilers_complaint_is_the_title_whatever_line_it_is_in() -> None:
    titles = {
        build_failure(
            KernelBuildError("long", first=FirstError("kernel/a.c", line, "'x' undeclared", ("context",)))
        ).title
        for line in (10, 20)
    }
    assert titles == {"does not build: kernel/a.c: 'x' undeclared"}


@pytest.mark.parametrize(
    "error",
    [
        KernelBuildError("make ended with status 2"),
        KernelBuildError("x", first=FirstError("", 0, "fatal error: Killed signal terminated program cc1", ())),
        HostError("the program 'flex' is not on this host"),
    ],
)
def test_a_compiler_that_the_host_killed_says_nothing_of_the_kernel(error: HostError) -> None:
    assert build_failure(error).result == "lost"


def test_a_patch_that_does_not_apply_is_a_candidate_that_cannot_be_built() -> None:
    found = build_failure(UserError("the patch 0003-x.patch does not apply: kernel/a.c"))
    assert (found.result, found.stage) == ("failed", Stage.BUILD)


def test_a_crashed_kernel_is_believed_before_the_host() -> None:
    crashed = machine(Kind.PANIC, "panic: planted", infrastructure="QEMU ended with status 1")
    found = failure([machine(), crashed], Stage.TEST, "test_b: AssertionError", by_host=True)
    assert (found.result, found.title) == ("failed", "panic: planted")


def test_a_machine_that_was_lost_is_no_failure() -> None:
    lost = failure([machine(infrastructure="its supervisor was killed")], Stage.TEST, "test_b: x", by_host=False)
    assert (lost.result, lost.title) == ("lost", "its supervisor was killed")
    assert failure([machine()], Stage.TEST, "the disk", by_host=True).result == "lost"
    slow = machine(Kind.SLOW, "slow: the host gives it too little time")
    assert failure([slow], Stage.TEST, "kernel 3 does not answer", by_host=False).result == "lost"


def test_pytests_report_tells_what_failed_and_who_is_to_blame(tmp_path: Path) -> None:
    told = read_junit(report(tmp_path, FAILED))
    assert (told.failed, told.reached, told.by_host) == (("test_b: AssertionError",), True, False)
    assert suite_outcome(told, tmp_path, internal=False, what="x").title == "test_b: AssertionError"
    assert suite_outcome(read_junit(report(tmp_path, LOST)), tmp_path, internal=False, what="x").result == "lost"
    stuck = suite_outcome(read_junit(report(tmp_path, STUCK)), tmp_path, internal=False, what="x")
    assert (stuck.result, stuck.stage) == ("failed", Stage.BOOT)
    assert suite_outcome(read_junit(report(tmp_path)), tmp_path, internal=False, what="x").result == "passed"


def test_a_test_that_was_skipped_is_no_test(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(
        '<testsuites><testsuite><testcase name="a"><skipped message="needs KVM"/></testcase></testsuite></testsuites>'
    )
    with pytest.raises(UserError, match="was skipped: needs KVM"):
        suite_outcome(read_junit(path), tmp_path, internal=False, what="a")


def test_node_ids_and_expressions_are_told_apart() -> None:
    assert selection("testsuites/test_x.py::test_y", "6.12") == ["testsuites/test_x.py::test_y"]
    assert selection("test_x.py::test_y", "6.12") == ["testsuites/test_x.py::test_y"]
    assert selection("smoke or ssh", "6.12") == ["testsuites", "-k", "(smoke or ssh) and not 3.2"]


def test_what_gets_further_than_the_failure_sought_passes_and_what_does_not_tells_nothing() -> None:
    sought = Sought("panic: planted", Stage.BOOT)
    runs = [
        Run("c", "failed", Stage.BOOT, "panic: planted"),
        Run("c", "failed", Stage.TEST, "test_b: AssertionError"),
        Run("c", "failed", Stage.BOOT, "panic: another"),
        Run("c", "failed", Stage.BUILD, "does not build"),
        Run("c", "lost", Stage.BOOT, "QEMU"),
    ]
    told = tally(runs, sought)
    assert (told.counts, told.others, told.built) == (Counts(1, 1), ("panic: another", "does not build"), False)


def test_a_measurement_is_judged_by_its_two_ends() -> None:
    shift = Shift((1.0, 1.1, 0.9, 1.0, 1.05), (1.3, 1.2, 1.25, 1.3, 1.35))
    assert shift.middles == (1.0, 1.3)
    assert shift.verdict([1.3, 1.25], 0.1) == "bad"
    assert shift.verdict([1.02, 0.95], 0.1) == "good"
    assert shift.verdict([1.15], 0.1) is None
    # One value that is far out does not decide.
    assert shift.verdict([9.0] + 8 * [1.0], 0.1) == "good"
    assert shift.worse_by() == pytest.approx(0.3)
    assert shift.apart() > 5
    falls = Shift((100.0, 101.0, 99.0), (80.0, 79.0, 81.0))
    assert falls.verdict([81.0, 80.0], 0.1) == "bad"
    assert Shift((1.0,) * 5, (1.0,) * 5).apart() == 0


def test_the_error_bounds_hold_for_whatever_rate_in_simulation() -> None:
    """Of searches that stop as soon as the bound allows it, no more are wrong than it says: for the worst rate too."""
    import random

    thrown = random.Random(11)
    bound = 0.05
    for rate in (0.1, 0.3, 0.5, 0.8):
        wrong = total = 0
        for _ in range(400):
            # The bad end, and a candidate that is bad, too: called good once the bound is met.
            bad, before = Counts(), Counts()
            for _ in range(60):
                fails = thrown.random() < rate
                bad += Counts(fails, not fails)
                fails = thrown.random() < rate
                before += Counts(fails, not fails)
                if bad.fails and Evidence(bad, 0.001).error_if_bad(before) <= bound:
                    wrong += 1
                    break
            total += 1
        assert wrong / total <= bound, rate


def test_walds_test_decides_by_likelihood() -> None:
    rates = Rates(0.2, 0.001)
    assert rates.verdict(Counts(0, 9), 0.1) is None
    assert rates.verdict(Counts(0, rates.runs_if_good(0.1)), 0.1) == "good"
    assert rates.verdict(Counts(1, 0), 0.1) == "bad"
    assert rates.runs_if_bad(0.1) < 10
    assert rate_below(59, 0.05) == pytest.approx(0.0495, abs=1e-3)
    with pytest.raises(ValueError, match="0 < good < bad < 1"):
        Rates(0.001, 0.2)
