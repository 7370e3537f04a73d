# SPDX-License-Identifier: Apache-2.0
"""The NAS benchmarks compute what their specification says, with any number of threads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "testsuites" / "npb"


@pytest.fixture(scope="session")
def npb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("npb") / "npb"
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    flags = ["-std=gnu11", "-O2", "-fopenmp", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", program, *sorted(SOURCES.glob("*.c")), "-lm"], check=True)
    return program


def run(npb: Path, *arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run([npb, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", ["S", "W"])
@pytest.mark.parametrize("benchmark", ["is", "cg", "ft"])
def test_the_results_are_those_of_the_specification(npb: Path, benchmark: str, size: str, threads: int) -> None:
    done = run(npb, benchmark, size, threads=threads)
    assert done.returncode == 0
    line = json.loads(done.stdout)
    assert (line["benchmark"], line["class"], line["threads"], line["verified"]) == (benchmark, size, threads, True)


def test_an_unknown_class_is_the_users_mistake(npb: Path) -> None:
    done = run(npb, "cg", "Z")
    assert done.returncode == 2
    assert "no class Z" in done.stderr


def test_an_unknown_benchmark_is_the_users_mistake(npb: Path) -> None:
    assert run(npb, "lu", "S").returncode == 2
