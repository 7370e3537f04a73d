# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin, with a stand-in for the machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import scipy.stats  # noqa: F401
from junit_schema import complaints
from xdist.workermanage import WorkerController

# A suite that runs in this process ends with the modules that were there before it, and numpy cannot be loaded twice.
import popcorn
import popcorn.bisect.classify
import popcorn.diagnose.live
import popcorn.testing.plugin
from popcorn.junit import only_lost

PLUGIN = ("-p", "popcorn.testing.plugin", "-p", "no:cacheprovider")
_CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def pool():
    # Lends numbers in place of machines: a new one for each that would be booted.
    class Pool:
        run_dir, boots, last, whole = None, 0, None, True
        def lend(self, need):
            if need != self.last or not self.whole:
                self.boots, self.last, self.whole = self.boots + 1, need, True
                with open("boots", "a") as out:
                    print(need, file=out)
            return self
    pool = Pool()
    yield pool
    with open("closed", "a") as out:
        print(pool.boots, file=out)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of another repository."""
    pytester.makeconftest(_CONFTEST)
    return pytester


def _verdicts(suite: pytest.Pytester) -> dict[str, dict[str, Any]]:
    lines = (suite.path / "verdicts.jsonl").read_text().splitlines()
    return {found["test"].partition("::")[2]: found for found in map(json.loads, lines)}


def _boots(suite: pytest.Pytester) -> list[str]:
    return (suite.path / "boots").read_text().splitlines()


def test_tests_of_one_state_share_a_machine_and_others_do_not(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        @pytest.mark.machine("small", policy="per-core")
        def test_a(machine): pass
        @pytest.mark.machine("small", policy="smp")
        def test_b(machine): pass
        @pytest.mark.machine("small", policy="per-core")
        def test_c(machine): pass
        @pytest.mark.kvm
        @pytest.mark.machine("small", flavour="debug")
        def test_d(machine): pass
        def test_e(): pass
        """
    )
    suite.runpytest(*PLUGIN).assert_outcomes(passed=5)
    # Those with most tests come first.
    assert _boots(suite)[0] == "small per-core default False 6.12 6.12 auto"
    assert sorted(_boots(suite)[1:]) == [
        "small per-core debug False 6.12 6.12 kvm",
        "small smp default False 6.12 6.12 auto",
    ]


def test_a_machine_that_a_test_broke_is_replaced_and_the_next_tests_go_on(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.machine()
        def test_a(machine): machine.whole = False; assert False
        def test_b(machine): assert machine.boots == 2
        """
    )
    suite.runpytest(*PLUGIN).assert_outcomes(passed=1, failed=1)
    assert len(_boots(suite)) == 2


def test_what_the_host_lost_runs_again_on_a_fresh_machine(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import os, pytest
        from popcorn.errors import MachineLostError
        pytestmark = pytest.mark.machine()
        def test_once(machine):
            if not os.path.exists("lost"):
                open("lost", "w").close()
                raise MachineLostError("QEMU was killed")
        def test_always(machine):
            raise MachineLostError("no memory")
        """
    )
    result = suite.runpytest(*PLUGIN, "--verdicts=verdicts.jsonl", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, errors=1)
    found = _verdicts(suite)
    assert {name: one["outcome"] for name, one in found.items()} == {
        "test_once": "passed",
        "test_always": "infrastructure",
    }
    assert found["test_once"]["lost"] == ["QEMU was killed"]
    assert found["test_always"]["lost"] == ["no memory", "no memory"]
    # Each time everything that is shared was ended.
    assert len(_boots(suite)) == 3
    result.stdout.fnmatch_lines(["*test_once: passed after 1 runs that the host lost (lost: QEMU was killed)"])
    assert complaints(suite.path / "junit.xml") == []
    assert only_lost([suite.path / "junit.xml"])
    cases = ElementTree.parse(suite.path / "junit.xml").getroot().findall(".//testcase/error")
    assert ["infrastructure failure in 2 runs" in case.get("message", "") for case in cases] == [True]


def test_a_flaky_test_is_told_with_its_rate_and_not_hidden(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import os, pytest
        pytestmark = pytest.mark.machine()
        def test_flaky(machine):
            with open("runs", "a") as out: out.write(".")
            assert len(open("runs").read()) not in (1, 3), "now and then"
        def test_broken(machine):
            assert 1 == 2
        """
    )
    words = ("--flaky-repeats=4", "--verdicts=verdicts.jsonl", "--junitxml=junit.xml")
    result = suite.runpytest(*PLUGIN, *words)
    result.assert_outcomes(failed=2)
    found = _verdicts(suite)
    assert (found["test_flaky"]["outcome"], found["test_flaky"]["fails"], found["test_flaky"]["runs"]) == (
        "flaky",
        1,
        4,
    )
    assert (found["test_broken"]["outcome"], found["test_broken"]["fails"]) == ("failed", 4)
    result.stdout.fnmatch_lines(["*test_flaky: flaky: 1 of 4 repetitions failed: 25%, 95 % interval 1% to 81%"])
    assert complaints(suite.path / "junit.xml") == []
    messages = [one.get("message", "") for one in ElementTree.parse(suite.path / "junit.xml").iter("failure")]
    assert any(message.startswith("flaky: 1 of 4") and "now and then" in message for message in messages)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_ktap_becomes_single_results_with_their_diagnostics(workers: tuple[str, ...], suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        LINES = ["KTAP version 1", "1..3", "ok 1 good", "# bad: EXPECTATION FAILED", "not ok 2 bad",
                 "ok 3 left_out # SKIP none"]
        @pytest.mark.parametrize("where", ["kernel-1"])
        def test_kunit(where, ktap):
            assert [one.name for one in ktap(LINES, where)] == ["good", "bad", "left_out"]
        def test_plain(): pass
        """
    )
    result = suite.runpytest(*PLUGIN, *workers, "--verdicts=verdicts.jsonl", "--junitxml=junit.xml")
    # The two tests, and three within the first.
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {name: one["outcome"] for name, one in _verdicts(suite).items()} == {
        "test_kunit[kernel-1]": "passed",
        "test_kunit::kernel-1::good[kernel-1]": "passed",
        "test_kunit::kernel-1::bad[kernel-1]": "failed",
        "test_kunit::kernel-1::left_out[kernel-1]": "skipped",
        "test_plain": "passed",
    }
    assert complaints(suite.path / "junit.xml") == []
    (failure,) = ElementTree.parse(suite.path / "junit.xml").iter("failure")
    assert "# bad: EXPECTATION FAILED" in (failure.text or "")


def test_whatever_a_kernel_says_is_a_verdict_and_a_report(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        r"""
        SAID = "\x1b[31m\x00\x85\u2028\udcff ]]> </failure>"
        def test_said(): assert False, SAID
        def test_kunit(ktap):
            ktap(["KTAP version 1", "1..2", f"not ok 1 {SAID}a/b", f"# {SAID}", "not ok 2 other"])
        """
    )
    words = ("--verdicts=verdicts.jsonl", "--junitxml=junit.xml")
    suite.runpytest(*PLUGIN, *words).assert_outcomes(failed=3, passed=1)
    assert [one["outcome"] for one in _verdicts(suite).values()].count("failed") == 3
    assert complaints(suite.path / "junit.xml") == []


def test_a_failure_has_the_machines_diagnosis_and_logs_and_a_success_has_not(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_testing_verdict import PANIC

    from popcorn.diagnose.recorded import MachineDiagnosis
    from popcorn.testing import plugin

    recorded = suite.mkdir("recorded")
    (recorded / "console").mkdir()
    (recorded / "console" / "3.jsonl").write_text('{"t": 1.0, "text": "oh no"}\n')
    monkeypatch.setattr(
        plugin, "diagnosed", lambda run_dirs: [MachineDiagnosis(run_dir, (PANIC,)) for run_dir in run_dirs]
    )
    suite.makepyfile(
        f"""
        import pytest
        from pathlib import Path
        pytestmark = pytest.mark.machine()
        @pytest.fixture(autouse=True)
        def _recorded(pool): pool.run_dir = Path({str(recorded)!r})
        def test_bad(machine): assert False
        def test_good(machine): pass
        """
    )
    suite.runpytest(*PLUGIN, "--failed-logs=logs", "--verdicts=verdicts.jsonl", "--junitxml=junit.xml")
    assert [path.name for path in (suite.path / "logs").iterdir()] == [
        "test_a_failure_has_the_machines_diagnosis_and_logs_and_a_success_has_not.py-test_bad"
    ]
    assert len(list((suite.path / "logs").rglob("3.jsonl"))) == 1
    assert _verdicts(suite)["test_bad"]["title"] == PANIC.title
    cases = {case.get("name"): case for case in ElementTree.parse(suite.path / "junit.xml").iter("testcase")}
    assert "kernel 3: panic: oh no in foo" in cases["test_bad"].findtext("failure", "")
    assert list(cases["test_good"]) == []
    assert complaints(suite.path / "junit.xml") == []


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ('"nowhere"', "unknown machine 'nowhere'"),
        ('"missing.toml"', "there is no machine description"),
        ('"small", policy="odd"', "unknown policy 'odd'"),
        ('"small", flavour="purple"', "has no flavour 'purple'"),
        ('"small", series="9.9"', "there is no series '9.9'"),
        ('"small", series=("6.12", "9.9")', "there is no series '9.9'"),
        ('"small", "per-core"', "takes one name, and the rest by words"),
        ('"small", polcy="smp"', "takes accel, flavour, policy, scratch, series, not polcy"),
        ("3", "takes one name, and the rest by words"),
    ],
)
def test_a_marker_that_is_wrong_is_the_suites_mistake_and_not_the_kernels(
    words: str, cause: str, suite: pytest.Pytester
) -> None:
    suite.makepyfile(f"import pytest\n@pytest.mark.machine({words})\ndef test_a(machine): pass")
    workers = ("-n", "2") if "odd" in words else ()
    result = suite.runpytest(*PLUGIN, *workers)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "::test_a: " in str(result.stdout)
    assert cause in str(result.stdout)


@pytest.mark.parametrize("word", ["--lost-retries=-1", "--flaky-repeats=many", "--verdicts=/proc/x", "--verdicts=."])
def test_a_wrong_option_is_the_users_mistake(word: str, suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_a(): pass")
    assert suite.runpytest(*PLUGIN, word).ret == pytest.ExitCode.USAGE_ERROR


def test_one_that_should_have_failed_says_so(suite: pytest.Pytester) -> None:
    suite.makepyfile("import pytest\n@pytest.mark.xfail(strict=True, reason='fault 7')\ndef test_a(): pass")
    suite.runpytest(*PLUGIN, "--verdicts=verdicts.jsonl", "--flaky-repeats=1")
    assert _verdicts(suite)["test_a"]["title"] == "[XPASS(strict)] fault 7"


def test_a_worker_that_breaks_is_no_success(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_a(): pass\ndef test_b(): pass")
    # What pytest-xdist looks up when it sends a report.
    suite.makeconftest("def pytest_runtest_teardown(item): item.name == 'test_a' and item.session.items.clear()")
    assert suite.runpytest(*PLUGIN, "-n", "2").ret == pytest.ExitCode.INTERNAL_ERROR


def test_tests_that_end_their_workers_are_lost_once(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import os, pytest
        @pytest.mark.parametrize("number", range(12))
        def test_a(number):
            if number in (2, 3, 7):
                os._exit(7)
        """
    )
    result = suite.runpytest(*PLUGIN, "-n", "2", "--verdicts=verdicts.jsonl")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=9, failed=3)
    lost = [name for name, verdict in _verdicts(suite).items() if verdict["outcome"] == "infrastructure"]
    assert sorted(lost) == ["test_a[2]", "test_a[3]", "test_a[7]"]


def test_what_an_ended_worker_could_not_be_told_is_dealt_anew(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def send(node: WorkerController, indices: list[int]) -> None:
        told.append(node.gateway.id)
        if told[-1] == "gw1" and told.count("gw1") == 2:
            process = node.gateway._io.popen
            process.kill()
            process.wait()
        node.sendcommand("runtests", indices=indices)

    monkeypatch.setattr(WorkerController, "send_runtest_some", send)
    suite.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("number", range(12))
        def test_a(number): pass
        """
    )
    result = suite.runpytest(*PLUGIN, "-n", "2", "--verdicts=verdicts.jsonl")
    # A worker keeps the last test that it was told of until it is told of one more.
    result.assert_outcomes(passed=11, failed=1)
    assert len(_verdicts(suite)) == 12


def test_workers_keep_tests_of_one_machine_together(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import os, pytest
        @pytest.mark.machine("small", policy="smp")
        @pytest.mark.parametrize("number", range(4))
        def test_a(machine, number): pass
        @pytest.mark.machine("small", policy="per-core")
        @pytest.mark.parametrize("number", range(4))
        def test_b(machine, number): pass
        @pytest.mark.parametrize("number", range(4))
        def test_c(number): pass
        """
    )
    suite.runpytest(*PLUGIN, "-n", "2", "--verdicts=verdicts.jsonl").assert_outcomes(passed=12)
    assert len(_boots(suite)) == 2
    assert len(_verdicts(suite)) == 12


def test_a_suite_without_machines_keeps_its_order(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_z="def test_one(): pass\ndef test_two(): pass", test_a="def test_three(): pass")
    result = suite.runpytest(*PLUGIN, "test_z.py", "test_a.py", "-v")
    names = [line.split("::")[1].split()[0] for line in result.outlines if "PASSED" in line]
    assert names == ["test_one", "test_two", "test_three"]


@pytest.mark.parametrize(("value", "skipped"), [(None, 1), ("", 1), ("0", 1), ("1", 0)])
def test_slow_tests_run_if_they_are_asked_for(
    value: str | None, skipped: int, suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("POPCORN_SLOW", raising=False)
    else:
        monkeypatch.setenv("POPCORN_SLOW", value)
    suite.makepyfile("import pytest\n@pytest.mark.slow\ndef test_a(): pass\n")
    suite.runpytest(*PLUGIN).assert_outcomes(skipped=skipped, passed=1 - skipped)


def test_who_has_popcorn_installed_pays_little_for_it_in_other_suites() -> None:
    heavy = "{'numpy', 'scipy', 'paramiko', 'pydantic'}"
    script = f"import sys, popcorn.testing.plugin; assert not {heavy} & set(sys.modules)"
    harness = Path(popcorn.__file__).parents[1]
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": str(harness)})


def test_an_installed_popcorn_is_loaded_once(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # What pip writes of pyproject.toml's entry point.
    info = pytester.mkdir("popcorn_harness-0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: popcorn-harness\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[pytest11]\npopcorn.testing.plugin = popcorn.testing.plugin\n")
    harness = Path(popcorn.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (harness, pytester.path))))
    pytester.makeconftest('pytest_plugins = ["popcorn.testing.plugin"]')
    pytester.makepyfile("def test_a(pytestconfig): assert pytestconfig.option.lost_retries == 1")
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "popcorn.testing.plugin").assert_outcomes(passed=1)


def test_logs_that_cannot_be_kept_take_no_verdict_away(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from pathlib import Path
        @pytest.fixture(autouse=True)
        def _recorded(pool): pool.run_dir = Path.cwd()
        @pytest.mark.machine()
        def test_bad(machine): assert 1 == 2
        def test_next(): pass
        """
    )
    result = suite.runpytest(*PLUGIN, "--failed-logs=/proc/logs", "--verdicts=verdicts.jsonl")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["not all could be kept: *"])
    assert _verdicts(suite)["test_bad"]["outcome"] == "failed"
