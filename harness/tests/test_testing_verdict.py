# SPDX-License-Identifier: Apache-2.0
"""A failed test is laid to who is to blame, and run as often as its verdict needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popcorn.build.buildlog import FirstError
from popcorn.build.kbuild import KernelBuildError
from popcorn.diagnose.kinds import Kind
from popcorn.diagnose.recorded import MachineDiagnosis
from popcorn.diagnose.verdict import Diagnosis
from popcorn.errors import FlakyError, GuestError, HostError, MachineLostError
from popcorn.testing.evidence import Evidence, evidence
from popcorn.testing.ktap import Result
from popcorn.testing.repeat import Policy, Run, judged
from popcorn.testing.tell import read_verdicts
from popcorn.testing.verdict import Outcome, TestVerdict, exit_status, failure_rate

_FINE = Diagnosis(0, Kind.FINE, "fine", "running", "user", 1)
PANIC = Diagnosis(3, Kind.PANIC, "panic: oh no in foo", "dead", "user", 1)
_SLOW = Diagnosis(3, Kind.SLOW, "slow: the host gave it 1 % of a CPU", "running", "user", 1)


def _machine(tmp_path: Path, *kernels: Diagnosis, infrastructure: str = "") -> list[MachineDiagnosis]:
    return [MachineDiagnosis(tmp_path, kernels or (_FINE,), infrastructure)]


def test_a_wrong_answer_is_the_tests_failure(tmp_path: Path) -> None:
    found = evidence(AssertionError("1 == 2\nand more"), _machine(tmp_path))
    assert (found.lost, found.title) == (False, "AssertionError: 1 == 2")


def test_a_lost_machine_is_never_blamed_on_the_kernel(tmp_path: Path) -> None:
    assert evidence(MachineLostError("QEMU was killed"), _machine(tmp_path)).lost
    assert evidence(AssertionError("no answer"), _machine(tmp_path, infrastructure="QEMU was killed")).lost
    caused = AssertionError("it failed")
    caused.__cause__ = HostError("no memory")
    assert evidence(caused, []) == Evidence(True, "no memory")


def test_a_kernel_that_crashed_is_believed_before_the_host(tmp_path: Path) -> None:
    found = evidence(MachineLostError("gone"), _machine(tmp_path, _FINE, PANIC, infrastructure="QEMU ended"))
    assert (found.lost, found.title) == (False, "panic: oh no in foo")
    assert "kernel 3: panic: oh no in foo" in found.told


def test_a_slow_host_excuses_waiting_in_vain_and_no_wrong_answer(tmp_path: Path) -> None:
    slow = _machine(tmp_path, _SLOW)
    assert evidence(GuestError("no answer within 60 s"), slow).lost
    assert not evidence(AssertionError("1 == 2"), slow).lost


def test_a_kernel_that_does_not_compile_is_not_the_hosts_fault() -> None:
    wrong = KernelBuildError("make failed", first=FirstError("a.c", 3, "expected ';'", ()))
    assert evidence(wrong, []) == Evidence(False, "does not build: a.c: expected ';'")
    assert evidence(KernelBuildError("make failed"), []).lost


class Script:
    """Runs as written: ``.`` passes, ``F`` fails, ``L`` is lost, ``K`` has a KTAP result that failed."""

    def __init__(self, runs: str) -> None:
        self.runs, self.fresh = list(runs), 0

    def run(self) -> Run:
        match self.runs.pop(0):
            case "F":
                return Run(_reports("failed"), (Evidence(False, "it is wrong"),))
            case "L":
                return Run(_reports("failed"), (Evidence(True, "QEMU was killed"),))
            case "K":
                return Run(_reports("passed"), (), {("suite", "case"): Result("case", "failed")})
            case _:
                return Run(_reports("passed"), (), {("suite", "case"): Result("case", "passed")})

    def anew(self) -> None:
        self.fresh += 1


def _reports(outcome: str) -> Sequence[pytest.TestReport]:
    return [pytest.TestReport("t", ("t.py", 0, "t"), {}, outcome, None, "call", duration=1.0)]  # type: ignore[arg-type]


def _verdict(runs: str, *, retries: int = 1, repeats: int = 3) -> TestVerdict:
    script = Script(runs)
    verdict = judged("t", Policy(retries, repeats), script.run, script.anew).verdict
    assert script.runs == [], "not all runs were taken"
    assert script.fresh == len(runs) - 1, "each run but the first begins with a fresh machine"
    return verdict


@pytest.mark.parametrize(
    ("runs", "outcome", "fails", "of", "lost"),
    [
        (".", Outcome.PASSED, 0, 0, 0),
        ("L.", Outcome.PASSED, 0, 0, 1),
        ("LL", Outcome.LOST, 0, 0, 2),
        ("FFFF", Outcome.FAILED, 3, 3, 0),
        ("F...", Outcome.FLAKY, 0, 3, 0),
        ("FF.F", Outcome.FLAKY, 2, 3, 0),
        ("LFF.F", Outcome.FLAKY, 2, 3, 1),
        ("FLFF", Outcome.FAILED, 2, 2, 1),
        ("FLLL", Outcome.FAILED, 0, 0, 3),
        ("K..K", Outcome.PASSED, 0, 0, 0),
    ],
)
def test_verdicts(runs: str, outcome: Outcome, fails: int, of: int, lost: int) -> None:
    verdict = _verdict(runs)
    assert (verdict.outcome, verdict.fails, verdict.runs, len(verdict.lost)) == (outcome, fails, of, lost)


def test_single_results_have_rates_of_their_own() -> None:
    script = Script("K.KF")
    found = judged("t", Policy(1, 3), script.run, script.anew)
    # The test that failed itself has no such result, which is no success.
    assert (found.single_fails, found.repetitions) == ({("suite", "case"): 2}, 3)


def test_without_repeats_a_failure_is_a_failure() -> None:
    assert _verdict("F", repeats=0).outcome is Outcome.FAILED
    assert _verdict("L", retries=0).outcome is Outcome.LOST


@given(st.text("LF.K", min_size=6, max_size=6))
def test_what_the_host_did_is_in_no_rate(runs: str) -> None:
    script = Script(runs + "." * 6)
    verdict = judged("t", Policy(2, 3), script.run, script.anew).verdict
    taken = runs[: script.fresh + 1]
    assert len(verdict.lost) == taken.count("L")
    assert (verdict.outcome is Outcome.LOST) == (taken == "LLL")
    assert verdict.fails <= verdict.runs <= 3


def test_the_rate_has_the_interval_of_clopper_and_pearson() -> None:
    # Exact limits from the quantiles of the beta distribution: 1 - 0.025^(1/5), and 0.025^(1/5).
    none, every = failure_rate(0, 5), failure_rate(5, 5)
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 5))
    assert every.low == pytest.approx(0.025 ** (1 / 5))
    assert str(failure_rate(2, 5)) == "2 of 5 repetitions failed: 40%, 95 % interval 5% to 85%"


def test_three_outcomes_have_three_statuses_and_the_worst_counts() -> None:
    assert exit_status([Outcome.PASSED, Outcome.SKIPPED]) == 0
    assert exit_status([Outcome.FLAKY, Outcome.PASSED]) == FlakyError.exit_status == 4
    assert exit_status([Outcome.FLAKY, Outcome.LOST]) == 3
    assert exit_status([Outcome.LOST, Outcome.FLAKY, Outcome.FAILED]) == 1


def test_a_verdict_comes_back_as_it_was_written() -> None:
    verdict = TestVerdict("a.py::t", Outcome.FLAKY, "title", 1.5, 2, 5, ("gone",), "text")
    assert TestVerdict.from_dict(verdict.to_dict()) == verdict


def test_a_name_lacks_the_folders_and_nothing_else() -> None:
    verdict = TestVerdict("tests/net/test_a.py::test_kunit::net/ipv4[a/b]", Outcome.PASSED)
    assert verdict.name == "test_a.py::test_kunit::net/ipv4[a/b]"


def test_what_is_no_verdict_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    whole = json.dumps(TestVerdict("t", Outcome.FAILED, "with \u2028 and \x85").to_dict(), ensure_ascii=False)
    wrong = (b"[]", b"{}", b"null", b'{"test": "t", "outcome": "unheard of"}', b'"\xff"', b'{"test": 1}', b'{"test"')
    path.write_bytes(b"\n".join((whole.encode(), *wrong[:-1], whole.encode(), wrong[-1])))
    assert [(one.test, one.title) for one in read_verdicts(path)] == [("t", "with \u2028 and \x85")] * 2
