# SPDX-License-Identifier: Apache-2.0
"""Files that the kernel series add, as they are when all of a series is applied."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from popcorn.build.series import load_series


def series_files(where: Path, *paths: str, series: str = "6.12") -> Path:
    """Write files that a series adds, or takes from another, below a directory, and return the directory."""
    where.mkdir(parents=True, exist_ok=True)
    includes = [f"--include={path}" for path in paths]
    # Not as part of whatever repository the directory may lie in.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(where.parent)}
    chosen = load_series(series)
    given = load_series(chosen.shared.series).patches if chosen.shared is not None else ()
    subprocess.run(["git", "apply", *includes, *given, *chosen.patches], cwd=where, env=environment, check=True)
    for path in paths:
        assert (where / path).is_file(), f"no patch of the series {series} adds {path}"
    return where
