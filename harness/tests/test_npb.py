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
    subprocess.run([compiler, *flags, "-c", *sorted(SOURCES.glob("*.c"))], cwd=program.parent, check=True)
    # Without -fopenmp, so that gcc's runtime cannot stand in for what the program's own lacks.
    subprocess.run([compiler, "-o", program, *program.parent.glob("*.o"), "-lm"], check=True)
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


def test_a_region_may_have_fewer_threads_than_the_one_before(tmp_path: Path) -> None:
    source = tmp_path / "sizes.c"
    source.write_text(
        """
        #include <omp.h>
        #include <stdio.h>

        int main(void)
        {
            int wrong = 0;

            for (int round = 0; round < 2000; round++) {
                int size = 1 + round * 7 % 6, came = 0, once = 0;

                #pragma omp parallel num_threads(size) reduction(+ : came)
                {
                    came += omp_get_num_threads() == size;
                    #pragma omp single nowait
                    once++;
                    #pragma omp barrier
                    came += once == 1;
                }
                wrong += came != 2 * size;
            }
            printf("%d", wrong);
            return omp_get_num_threads() != 1;
        }
        """
    )
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    subprocess.run([compiler, "-O2", "-fopenmp", "-c", source, SOURCES / "team.c"], cwd=tmp_path, check=True)
    subprocess.run([compiler, "-o", "sizes", "sizes.o", "team.o"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "0"


def test_an_unknown_class_is_the_users_mistake(npb: Path) -> None:
    done = run(npb, "cg", "Z")
    assert done.returncode == 2
    assert "no class Z" in done.stderr


def test_an_unknown_benchmark_is_the_users_mistake(npb: Path) -> None:
    assert run(npb, "lu", "S").returncode == 2
