# SPDX-License-Identifier: Apache-2.0
"""Switches that a user sets in the environment."""

from __future__ import annotations

import os


def is_on(name: str) -> bool:
    """Whether a variable is set, to anything but nothing and 0."""
    return os.environ.get(name, "") not in ("", "0")


def slow() -> bool:
    """Whether tests that take minutes run, and the others with more of whatever they repeat."""
    return is_on("POPCORN_SLOW")
