# SPDX-License-Identifier: Apache-2.0
"""`popcorn test` that is stopped leaves reports of what had ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from junit_schema import complaints

from popcorn.dirs import source_root

_SUITE = """
import time
def test_fine(): pass
def test_long(): time.sleep(7653)
"""
# A checkout with suites of its own, and nothing to build.
_SCRIPT = """
import sys
from pathlib import Path
import click
from popcorn import dirs, hostpackages
from popcorn.cli import test
from popcorn.cli.main import main
dirs.source_root = lambda: Path(sys.argv[1])
hostpackages.ensure = lambda _: None
test.build = click.Command("build", callback=lambda: None)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "testsuites").mkdir(parents=True)
    shutil.copy(source_root() / "tox.ini", root)
    (root / "harness").symlink_to(source_root() / "harness")
    (root / "testsuites" / "conftest.py").write_text('pytest_plugins = ["popcorn.testing.plugin"]\n')
    (root / "testsuites" / "test_it.py").write_text(_SUITE)
    return root


def test_what_had_ended_is_told(checkout: Path) -> None:
    argv = [sys.executable, "-P", "-c", _SCRIPT, str(checkout), "test", "guest"]
    env = os.environ | {"PYTHONPATH": str(source_root() / "harness")}
    ended = checkout / "build" / "guest.jsonl"
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not ended.is_file() or not ended.read_text().endswith("\n"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(family, timeout=3)
    assert alive == []
    report = checkout / "build" / "junit" / "guest.xml"
    assert complaints(report) == []
    cases = {
        case.get("name", ""): [verdict.tag for verdict in case] for case in ElementTree.parse(report).iter("testcase")
    }
    assert cases == {
        "testsuites/test_it.py::test_fine": [],
        "testsuites/test_it.py::test_long": ["error"],
        "all tests ended": ["failure"],
    }
    assert "stopped by SIGTERM" in report.read_text()
