# SPDX-License-Identifier: Apache-2.0
"""Files that the kernel series adds, as they are when all of it is applied."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from popcorn.build.series import load_series


def series_files(where: Path, *paths: str) -> Path:
    """Write files that the series 6.12 adds below a directory, and return the directory."""
    where.mkdir(parents=True, exist_ok=True)
    includes = [f"--include={path}" for path in paths]
    # Not as part of whatever repository the directory may lie in.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(where.parent)}
    for patch in load_series("6.12").patches:
        subprocess.run(["git", "apply", *includes, patch], cwd=where, env=environment, check=True)
    for path in paths:
        assert (where / path).is_file(), f"no patch of the series adds {path}"
    return where
