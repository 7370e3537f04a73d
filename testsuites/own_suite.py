# SPDX-License-Identifier: Apache-2.0
"""The example of a suite in another repository, and Popcorn as pip installs it for such a one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from popcorn.dirs import source_root

EXAMPLE = source_root() / "harness" / "examples" / "own-suite"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Popcorn as pip installs it from this checkout, in a folder of its own."""
    place = tmp_path_factory.mktemp("installed")
    words = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    argv = [sys.executable, "-m", "pip", "install", *words, "--target", str(place), str(source_root())]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    return place
