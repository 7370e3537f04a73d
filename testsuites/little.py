# SPDX-License-Identifier: Apache-2.0
"""A machine for tests that are about something else: it boots sooner than ``small``."""

from __future__ import annotations

from pathlib import Path

TWO_CORES = """\
name = "two"
description = "two cores"
sockets = 1
cores = 2
[[nodes]]
cpus = "0-1"
memory = "1GiB"
[[devices]]
name = "net0"
id = "1af4:1000"
"""


def two_cores(folder: Path) -> Path:
    """The file of such a machine, made in a folder."""
    path = folder / "two.toml"
    path.write_text(TWO_CORES, encoding="utf-8")
    return path
