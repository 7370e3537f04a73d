# SPDX-License-Identifier: Apache-2.0
"""Asking pytest which tests it would run, before what they test is built."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from popcorn.errors import UserError
from popcorn.process import run, shown

_MISUSED, _NO_TESTS = 4, 5


def require_tests(words: Sequence[str], *, cwd: Path) -> None:
    """Refuse a selection of tests that pytest does not understand, or that holds none.

    A test file that cannot be read is nobody's mistake in the selection, and is told when the others have run.

    Args:
        words: as for pytest.

    Raises:
        UserError: with what pytest says.
    """
    harness = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [harness, os.environ.get("PYTHONPATH", "")]))
    # One's own configuration may ask for workers, which would each look for the tests.
    alone = ["-n", "0"] if importlib.util.find_spec("xdist") is not None else []
    plugins = ["-p", "popcorn.testing.plugin", "-p", "no:cacheprovider"]
    done = run(
        [sys.executable, "-P", "-m", "pytest", *words, "--collect-only", "--quiet", *alone, *plugins],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    if done.returncode == _NO_TESTS:
        raise UserError(
            f"there are no such tests: {shown(words)}", hint=f"look for them in {cwd}: pytest --collect-only"
        )
    if done.returncode == _MISUSED:
        lines = (done.stdout + done.stderr).splitlines()
        said = next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")), "see its --help")
        raise UserError(f"pytest cannot run {shown(words)}: {said}", hint="pytest --help tells what a selection may be")
