# SPDX-License-Identifier: Apache-2.0
"""Processes that have imported at their start what tests need in a process of its own: most of a short one's time."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver

import pytest

# One server has to do for all that is forked in a process that runs tests.
_IMPORTED = (
    *("dask_fakes", "fake_machine", "fake_search", "killpoints"),
    *("distributed", "matplotlib.figure", "matplotlib.backends.backend_svg"),
    *(
        "popcorn.build.store",
        "popcorn.experiment.worker",
        "popcorn.image",
        "popcorn.machine.boot",
        "popcorn.report.page",
    ),
)

FORKS = multiprocessing.get_context("forkserver")


def serve_forks() -> None:
    """Have the server run that `FORKS` starts processes by."""
    FORKS.set_forkserver_preload(list(_IMPORTED))
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Python 3.11 does not tell it where modules are.
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        # A process that is looked for by the environment of a test is not the server.
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        forkserver.ensure_running()
