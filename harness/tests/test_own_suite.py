# SPDX-License-Identifier: Apache-2.0
"""A suite of another repository finds everything in an installed Popcorn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from own_suite import EXAMPLE


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The example, away from this checkout."""
    shutil.copytree(EXAMPLE, tmp_path / "suite")
    return tmp_path / "suite"


def test_its_tests_are_collected_with_the_plugin_that_is_installed(installed: Path, suite: Path) -> None:
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "--trace-config"]
    done = subprocess.run(
        argv, cwd=suite, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{installed}/popcorn/testing/plugin.py" in done.stdout
    # Those that share a machine follow each other, whatever stands between them.
    tests = [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line and line.startswith("tests/")]
    assert tests == [
        "test_each_kernel_has_a_cpu_of_its_own",
        "test_a_message_goes_there_and_back",
        "test_a_program_that_prints_ktap",
        "test_on_kvm_where_it_works",
        "test_one_kernel_can_have_both",
    ]
