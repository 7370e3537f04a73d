# SPDX-License-Identifier: Apache-2.0
"""Programs that workloads want in the guests, by the names that `Needs.programs` gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from popcorn.experiment.protocols import Files
from popcorn.image.mpi import mpi_files
from popcorn.image.npbtree import TreeProgram
from popcorn.run.iperf import iperf_files
from popcorn.run.web import web_files

PROGRAMS: Mapping[str, Callable[[], Files]] = {"iperf3": iperf_files, "mpi": mpi_files, "web": web_files}


def files_of(names: Iterable[str], trees: Iterable[TreeProgram] = ()) -> Files:
    """All files of some programs.

    Raises:
        UserError: a user's own tree does not compile.
        HostError: a package cannot be fetched, or a compiler is missing.
    """
    every = [*(PROGRAMS[name]() for name in names), *(one.files() for one in trees)]
    return {path: content for files in every for path, content in files.items()}
