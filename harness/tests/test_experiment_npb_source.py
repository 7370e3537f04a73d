# SPDX-License-Identifier: Apache-2.0
"""A user's own NPB tree: found, compiled with our definitions, and its answers read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from popcorn.errors import UserError
from popcorn.experiment.description import find_description
from popcorn.experiment.ready import Wanted, get_ready
from popcorn.guest.finished import Finished
from popcorn.image.npbtree import TreeProgram, build_tree_program, find_suite
from popcorn.run.npb import parse

_PUBLISHED = """\


 CG Benchmark Completed
 Class           =                        S
 Size            =                     1400
 Iterations      =                       15
{workers} Time in seconds =                     0.27
 Mop/s total     =                   247.41
 Operation type  =           floating point
 Verification    =               {verified}
 Version         =                      3.4
"""
# What the suites have in common: folders, make.common, and a program that is called by benchmark and class.
_IS_C = """\
#include <omp.h>
#include <stdio.h>
int main(void) { printf("%s %d\\n", CLASS, omp_get_max_threads()); return 0; }
"""
_MAKEFILE = """\
include config/make.def
is:
\tcd IS; $(CC) $(CFLAGS) -DCLASS=\\"$(CLASS)\\" -c is.c -o is.o
\tcd IS; $(CLINK) $(CLINKFLAGS) -o $(BINDIR)/is.$(CLASS).x is.o $(C_LIB)
"""


def _done(text: str, status: int = 0) -> Finished:
    return Finished(("x",), status, text.encode(), b"")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    suite = tmp_path / "NPB3.4-OMP"
    for name in ("IS", "sys", "config"):
        (suite / name).mkdir(parents=True)
    (suite / "sys" / "make.common").write_text("")
    (suite / "config" / "make.def").write_text("CC = a-compiler-of-the-user\n")
    (suite / "IS" / "is.c").write_text(_IS_C)
    (suite / "Makefile").write_text(_MAKEFILE)
    return tmp_path


@pytest.mark.parametrize(
    ("workers", "threads"),
    [
        (" Total threads   =                        4\n", 4),
        (" Total processes =                        4\n", 4),
        (" Threads         =                        4\n", 4),
        ("", None),
    ],
)
def test_the_answers_of_published_benchmarks_are_read(workers: str, threads: int | None) -> None:
    answer = parse(0, "cg", "S", _done(_PUBLISHED.format(workers=workers, verified="SUCCESSFUL")))
    assert (answer.verified, answer.threads, answer.time_s, answer.mop_s) == (True, threads, 0.27, 247.41)


def test_a_published_benchmark_that_does_not_verify_has_no_time_that_counts() -> None:
    answer = parse(0, "cg", "S", _done(_PUBLISHED.format(workers="", verified="UNSUCCESSFUL")))
    assert not answer.verified
    assert "verification failed" in answer.complaint
    cut = parse(0, "cg", "S", _done(_PUBLISHED.format(workers="", verified="SUCCESSFUL")[:100]))
    assert not cut.verified
    assert cut.time_s is None


def test_a_suite_is_found_in_the_tree_and_as_the_tree(tree: Path) -> None:
    suite = tree / "NPB3.4-OMP"
    assert find_suite(tree, "openmp") == find_suite(suite, "openmp") == suite.resolve()
    with pytest.raises(UserError, match="no suite of NPB with MPI in it; it has NPB3"):
        find_suite(tree, "mpi")
    with pytest.raises(UserError, match="it has no sys/make"):
        find_suite(suite / "IS", "openmp")
    with pytest.raises(UserError, match="no such folder"):
        find_suite(tree / "nothing", "openmp")


def test_a_program_is_compiled_with_our_definitions_and_the_tree_is_left_alone(tree: Path) -> None:
    suite = find_suite(tree, "openmp")
    before = sorted(tree.rglob("*"))
    program = build_tree_program(TreeProgram(suite, "is", "W", "openmp"))
    done = subprocess.run([program], env={"OMP_NUM_THREADS": "3"}, capture_output=True, text=True, check=True)
    assert done.stdout == "W 3\n"
    assert sorted(tree.rglob("*")) == before
    # Guests have no libraries.
    assert b"/lib64/ld-linux" not in program.read_bytes()


def test_a_tree_that_does_not_compile_is_the_users_mistake(tree: Path) -> None:
    suite = find_suite(tree, "openmp")
    (suite / "IS" / "is.c").write_text("#include <omp.h>\n#error not today\n")
    with pytest.raises(UserError, match=r"does not compile: .*not today"):
        build_tree_program(TreeProgram(suite, "is", "S", "openmp"))


def test_the_workload_takes_its_program_from_the_tree_and_says_so(tree: Path) -> None:
    wanted = Wanted(machine="small", cores=(1, 2), size="S", npb_source=str(tree))
    ready = get_ready(find_description("fig12"), wanted)
    (workload,) = ready.workloads.values()
    assert [one.guest_path for one in ready.trees] == ["/usr/bin/npb-tree/is.S.openmp.1"]
    assert workload.name == "npb-openmp.is.S"
    assert f"(NPB3.4-OMP, {ready.trees[0].digest[:12]})" in workload.group


def test_an_experiment_without_benchmarks_has_no_use_for_a_tree(tree: Path) -> None:
    with pytest.raises(UserError, match="no workload of network is a benchmark of NPB"):
        get_ready(find_description("network"), Wanted(npb_source=str(tree)))
