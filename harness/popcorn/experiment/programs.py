# SPDX-License-Identifier: Apache-2.0
"""Programs that workloads want in the guests, by the names that `Needs.programs` gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from popcorn.experiment.protocols import Files
from popcorn.image.mpi import mpi_files
from popcorn.image.npbtree import TreeProgram
from popcorn.image.programs import guest_program
from popcorn.machine.instructions import MARK_PROGRAM
from popcorn.run.iperf import iperf_files
from popcorn.run.web import web_files

PROGRAMS: Mapping[str, Callable[[], Files]] = {"iperf3": iperf_files, "mpi": mpi_files, "web": web_files}


def mark_files() -> Files:
    """What marks the beginning and the end of a workload in a guest whose instructions are counted.

    Raises:
        HostError: a compiler is missing.
    """
    return {MARK_PROGRAM: (guest_program("popcorn-mark").read_bytes(), 0o755)}


def files_of(names: Iterable[str], trees: Iterable[TreeProgram] = ()) -> Files:
    """All files of some programs.

    Raises:
        UserError: a user's own tree does not compile.
        HostError: a package cannot be fetched, or a compiler is missing.
    """
    every = [*(PROGRAMS[name]() for name in names), *(one.files() for one in trees)]
    return {path: content for files in every for path, content in files.items()}
