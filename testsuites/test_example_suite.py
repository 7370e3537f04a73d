# SPDX-License-Identifier: Apache-2.0
"""`popcorn ci` on the example of a suite in another repository, with Popcorn as pip installs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from command import await_no_qemu, qemus
from own_suite import EXAMPLE

_SUITE_S = 500.0
_STOPPED_S = 10.0


@pytest.fixture
def suite(private_dirs: Path) -> Path:
    """The example, away from this checkout."""
    shutil.copytree(EXAMPLE, private_dirs / "suite")
    return private_dirs / "suite"


def _environment(installed: Path) -> dict[str, str]:
    """In which this checkout is on no path, and machines are recorded among the test's own files."""
    own = Path(os.environ["POPCORN_RUNS"]).parent.resolve()
    return os.environ | {"PYTHONPATH": str(installed), "PYTEST_DEBUG_TEMPROOT": str(own)}


def _ci(suite: Path, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "popcorn", "ci", "--suite", "tests", "--output", str(suite / "out"), *words]


@contextmanager
def _started(suite: Path, installed: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = _ci(suite, "-k", "test_short or test_long", "-n", "1")
    with log.open("w") as out:
        process = subprocess.Popen(words, cwd=suite, env=_environment(installed), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_suite_of_another_repository_passes(suite: Path, installed: Path) -> None:
    done = subprocess.run(
        _ci(suite),
        cwd=suite,
        env=_environment(installed),
        capture_output=True,
        text=True,
        timeout=_SUITE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("# Popcorn CI: fine\n")
    lines = (suite / "out" / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    found = {verdict["test"].partition("::")[2]: verdict["outcome"] for verdict in map(json.loads, lines)}
    # Three results of KTAP in each of two kernels, one of them left out.
    assert Counter(found.values()) in ({"passed": 8, "skipped": 3}, {"passed": 9, "skipped": 2})
    assert found["test_a_program_that_prints_ktap::kernel-1::popcorn"] == "passed"
    cases = list(ElementTree.parse(suite / "out" / "junit" / "tests.xml").iter("testcase"))
    assert len(cases) == len(found)


def test_a_machine_that_the_host_lost_is_replaced_and_the_kernel_not_blamed(suite: Path, installed: Path) -> None:
    (suite / "tests" / "test_lost.py").write_text(
        "import os, pytest, signal\n"
        "pytestmark = pytest.mark.machine('two-cores.toml')\n"
        "def test_lost_once(machine, kernel, tmp_path_factory):\n"
        "    mark = tmp_path_factory.getbasetemp() / 'lost'\n"
        "    if not mark.exists():\n"
        "        mark.touch()\n"
        "        os.kill(machine.record.qemu_pid, signal.SIGKILL)\n"
        "    assert kernel(1).shell('echo here') == 'here\\n'\n"
        "def test_next(kernel):\n"
        "    assert kernel(1).shell('echo here') == 'here\\n'\n"
    )
    done = subprocess.run(
        _ci(suite, "-k", "test_lost", "-n", "0"),
        cwd=suite,
        env=_environment(installed),
        capture_output=True,
        text=True,
        timeout=_SUITE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in (suite / "out" / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["outcome"], len(one["lost"])) for one in found] == [("passed", 1), ("passed", 0)]
    assert "passed after a run that the host lost" in done.stdout


def test_sigterm_ends_machines_too_within_seconds(suite: Path, installed: Path) -> None:
    log = suite / "ci.log"
    (suite / "tests" / "test_long.py").write_text(
        "import pytest\n"
        "@pytest.mark.machine('two-cores.toml')\n"
        "def test_short(machine): pass\n"
        "@pytest.mark.machine('two-cores.toml')\n"
        "def test_long(kernel): kernel(1).run(['sleep', '7652'], timeout_s=8000)\n"
    )
    # As QEMU is told of it.
    place = suite.resolve().parent
    with _started(suite, installed, log) as process:
        verdicts = suite / "out" / "verdicts.jsonl"
        deadline = time.monotonic() + _SUITE_S
        while not (verdicts.is_file() and verdicts.stat().st_size):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        assert qemus(place), "the machine of the test that goes on"
        began = time.monotonic()
        process.terminate()
        assert process.wait(timeout=_STOPPED_S) == 128 + signal.SIGTERM, log.read_text()
    await_no_qemu(place, began + _STOPPED_S - time.monotonic())
    _, alive = psutil.wait_procs(family, timeout=max(0.1, began + _STOPPED_S - time.monotonic()))
    assert alive == []
    page = (suite / "out" / "summary.md").read_text(encoding="utf-8")
    assert "**Partial results: stopped by SIGTERM during tests.**" in page
    assert json.loads(verdicts.read_text(encoding="utf-8").splitlines()[0])["outcome"] == "passed"
    report = ElementTree.parse(suite / "out" / "junit" / "tests.xml")
    assert [one.get("name") for one in report.iter("testsuite")] == ["tests, partial"]
