# SPDX-License-Identifier: Apache-2.0
"""Benchmarks out of a user's own NPB tree, such as NASA's: found, compiled for the guests, and where they go there.

A tree is one suite (NPB3.4-OMP, NPB3.4-MPI) or a folder with several. It is copied before it is compiled, with a
``config/make.def`` of our own; what the user wrote there is not used.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from popcorn.build.store import get_or_build
from popcorn.errors import HostError, UserError
from popcorn.files import sha256_file, sha256_tree, write_atomic
from popcorn.image.mpi import Mpich, finalize_sources, mpi_fortran_files, mpich
from popcorn.image.musl import compiler_id
from popcorn.process import first_error_line, require_program, run
from popcorn.progress import step

Parallel = Literal["openmp", "mpi"]

RULES = 1
"""Raised when the same tree would be compiled into another program."""
_GUEST_FOLDER = "/usr/bin/npb-tree"
# A line of the source of IS, which all suites have in C, that tells which of them it is.
_SIGNS: dict[Parallel, str] = {"mpi": "mpi.h", "openmp": "omp"}
_FORTRAN = ("*.f", "*.f90", "*.F", "*.F90")


@dataclass(frozen=True)
class TreeProgram:
    """One benchmark of a tree, of one class; for MPI and one number of processes, because older trees want it so."""

    suite: Path
    benchmark: str
    size: str
    parallel: Parallel
    ranks: int = 1

    @property
    def guest_path(self) -> str:
        """Where it goes in a kernel."""
        return f"{_GUEST_FOLDER}/{self.benchmark}.{self.size}.{self.parallel}.{self.ranks}"

    @property
    def digest(self) -> str:
        """Of the suite's files."""
        return _digest(self.suite)

    @property
    def is_fortran(self) -> bool:
        folder = self.suite / self.benchmark.upper()
        return any(found for pattern in _FORTRAN for found in folder.glob(pattern))

    def files(self) -> dict[str, tuple[bytes, int]]:
        """What a kernel needs to run it: path to content and permissions. Errors as for `build_tree_program`."""
        more = mpi_fortran_files() if self.parallel == "mpi" and self.is_fortran else {}
        return {**more, self.guest_path: (build_tree_program(self).read_bytes(), 0o755)}


def find_suite(tree: Path, parallel: Parallel) -> Path:
    """The suite of a tree that is written with OpenMP or MPI.

    Raises:
        UserError: there is none.
    """
    if not tree.is_dir():
        raise UserError(f"--npb-source {tree}: no such folder")
    candidates = [tree, *sorted(path for path in tree.iterdir() if path.is_dir())]
    suites = [path for path in candidates if (path / "sys" / "make.common").is_file()]
    for suite in suites:
        source = suite / "IS" / "is.c"
        # OpenMP's is in comments and pragmas of MPI's too.
        found = source.read_text(encoding="utf-8", errors="replace") if source.is_file() else ""
        is_mpi = _SIGNS["mpi"] in found
        if is_mpi == (parallel == "mpi") and _SIGNS[parallel] in found:
            return suite.resolve()
    said = f"it has {', '.join(path.name for path in suites)}" if suites else "it has no sys/make.common"
    raise UserError(
        f"--npb-source {tree}: no suite of NPB with {'MPI' if parallel == 'mpi' else 'OpenMP'} in it; {said}",
        hint="name the folder of a suite such as NPB3.4-OMP or NPB3.4-MPI, or the one that holds both",
    )


def build_tree_program(program: TreeProgram) -> Path:
    """The compiled benchmark, from the store if it is there.

    Raises:
        UserError: it does not compile.
        HostError: a compiler or a package is missing.
    """
    for tool in ("make", "gcc"):
        require_program(tool)
    if program.is_fortran and shutil.which("gfortran") is None:
        raise HostError(
            f"{program.benchmark.upper()} of {program.suite} is in Fortran, and there is no gfortran on this host",
            hint="as root: apt-get install -y gfortran",
        )
    runtime = mpich() if program.parallel == "mpi" else None
    definitions = _definitions(runtime)
    inputs: dict[str, object] = {
        "rules": RULES,
        "suite": program.digest,
        "benchmark": [program.benchmark, program.size, program.ranks],
        "definitions": definitions,
        "compiler": compiler_id(),
    }
    if runtime is not None:
        inputs["mpich"] = runtime.versions
        inputs["finalize"] = [sha256_file(path) for path in finalize_sources()]

    def build(into: Path) -> None:
        with step(f"compiling {program.benchmark} {program.size} of {program.suite}"):
            _build(program, definitions, runtime, into)

    return get_or_build("npbtree", inputs, build) / "program"


@functools.cache
def _digest(suite: Path) -> str:
    return sha256_tree(suite)


def _build(program: TreeProgram, definitions: str, runtime: Mpich | None, into: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".npb-", dir=into.parent) as scratch:
        suite = Path(scratch) / "suite"
        # With what the user may have compiled there, and without what tells make that it is new.
        shutil.copytree(program.suite, suite, ignore=shutil.ignore_patterns(".git", "*.o", "*.mod", "bin"))
        (suite / "bin").mkdir()
        write_atomic(suite / "config" / "make.def", definitions)
        if runtime is not None:
            runtime.put_beside(suite / "mpich")
        words = [program.benchmark, f"CLASS={program.size}", f"NPROCS={program.ranks}"]
        done = run(["make", *words], cwd=suite, check=False)
        built = sorted((suite / "bin").glob(f"{program.benchmark}.{program.size}*"))
        if done.returncode or not built:
            said = (
                first_error_line((done.stdout + done.stderr).splitlines())
                or (done.stderr or done.stdout).strip()[-200:]
            )
            raise UserError(
                f"{program.suite} does not compile: {said or f'make ended with status {done.returncode}'}",
                hint=f"`make {' '.join(words)}` was run in a copy of it, with a config/make.def for the guests",
            )
        shutil.copy(built[0], into / "program")


def _definitions(runtime: Mpich | None) -> str:
    """A ``config/make.def`` for all generations of the suites, whose names for things differ."""
    if runtime is None:
        values = dict.fromkeys(("FC", "F77", "FLINK"), "gfortran") | dict.fromkeys(("CC", "CLINK", "UCC"), "gcc")
        values |= dict.fromkeys(("FFLAGS", "CFLAGS"), "-O2 -fopenmp")
        values |= dict.fromkeys(("FLINKFLAGS", "CLINKFLAGS"), "-O2 -fopenmp -static")
        values |= {"C_LIB": "-lm", "F_LIB": "", "C_INC": "-I../common", "F_INC": ""}
    else:
        values = dict.fromkeys(("MPIFC", "MPIF77", "FLINK"), "gfortran")
        values |= dict.fromkeys(("MPICC", "CLINK", "CC", "UCC"), "gcc")
        # Fortran's MPI has no types; Debian's modules are where their compiler looks for them.
        values |= {"FFLAGS": "-O2 -fallow-argument-mismatch", "CFLAGS": "-O2"}
        values |= dict.fromkeys(("FLINKFLAGS", "CLINKFLAGS"), "-O2 -Wl,--allow-shlib-undefined")
        values |= {"FMPI_INC": "-I../mpich/include", "CMPI_INC": "-I../mpich/include"}
        values |= {"FMPI_LIB": "../mpich/fortran/* ../mpich/lib/*", "CMPI_LIB": "../mpich/lib/* -lm"}
        values |= {"CONVERTFLAG": ""}
    values |= {"BINDIR": "../bin", "RAND": "randdp", "WTIME": "wtime.c", "MACHINE": ""}
    return "".join(f"{name} = {value}\n" for name, value in values.items())
