# SPDX-License-Identifier: Apache-2.0
"""``popcorn run --npb-source TREE --instructions``: a user's own benchmark in guests, and what it executes counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import popcorn
from little import two_cores

from popcorn.run.results import read_trials

_LOOPS = 20_000_000
_THREADS = 2
_DESCRIPTION = f"""\
title = "A tree of one's own"
machine = "MACHINE"
systems = ["popcorn-cluster"]
cores = [{_THREADS}]
iterations = 1

[[workloads]]
kind = "npb-openmp"
benchmark = "is"
class = "S"
"""
# In the layout of NPB's suites, and with their words for what came of it: two instructions, some times, in each thread.
_IS_C = """\
#include <omp.h>
#include <stdio.h>

int main(void)
{
    int threads = 0;
    double begun = omp_get_wtime();

    #pragma omp parallel reduction(+:threads)
    {
        long left = LOOPS;

        __asm__ volatile("1: dec %0; jnz 1b" : "+r"(left));
        threads += left == 0;
    }
    printf("\\n\\n IS Benchmark Completed\\n");
    printf(" Class           =             %12s\\n", CLASS);
    printf(" Time in seconds =             %12.2f\\n", omp_get_wtime() - begun);
    printf(" Total threads   =             %12d\\n", threads);
    printf(" Mop/s total     =             %12.2f\\n", 1.0);
    printf(" Verification    =             %12s\\n",
           threads == omp_get_max_threads() ? "SUCCESSFUL" : "UNSUCCESSFUL");
    return 0;
}
"""
_MAKEFILE = f"""\
include config/make.def
is:
\tcd IS; $(CC) $(CFLAGS) -DCLASS=\\"$(CLASS)\\" -DLOOPS={_LOOPS}L -c is.c -o is.o
\tcd IS; $(CLINK) $(CLINKFLAGS) -o $(BINDIR)/is.$(CLASS).x is.o $(C_LIB)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    suite = tmp_path / "OWN-OMP"
    for name in ("IS", "sys", "config"):
        (suite / name).mkdir(parents=True)
    (suite / "sys" / "make.common").write_text("", encoding="utf-8")
    (suite / "IS" / "is.c").write_text(_IS_C, encoding="utf-8")
    (suite / "Makefile").write_text(_MAKEFILE, encoding="utf-8")
    return tmp_path


def test_a_users_own_benchmark_runs_in_guests_and_its_instructions_are_counted(tree: Path, private_dirs: Path) -> None:
    description = private_dirs / "own.toml"
    description.write_text(_DESCRIPTION.replace("MACHINE", str(two_cores(private_dirs))), encoding="utf-8")
    words = ["--npb-source", str(tree), "--instructions", "--name", "e", "--accel", "tcg", "--json"]
    done = popcorn("run", str(description), *words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["trials"] == {"ok": 2}, "a measured one, and a counted one"
    run_dir = Path(told["run"])
    counted = {}
    for row, found in read_trials(run_dir):
        assert "Benchmark Completed" in (run_dir / row.raw).read_text(encoding="utf-8")
        values = {one.metric: one.value for one in found}
        if row.kind == "counted":
            counted[row.system] = values["count.instructions"] or 0.0
        elif row.kind == "measured":
            assert (values["time"] or 0.0) > 0
    least = _THREADS * 2 * _LOOPS
    assert sorted(counted) == ["popcorn-cluster"]
    # Starting the program and waiting for the other thread is in it, and nothing of ssh or of the kernel's own boot.
    assert all(least < count < 1.5 * least for count in counted.values()), counted
    assert "OWN-OMP" in Path(told["report"]).read_text(encoding="utf-8")
