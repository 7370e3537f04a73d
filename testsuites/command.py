# SPDX-License-Identifier: Apache-2.0
"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked
import psutil

POPCORN = [sys.executable, "-P", "-m", "popcorn"]


def popcorn(*words: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing to read.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    return forked.run(words, timeout_s)


@contextmanager
def started(*words: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on while the test does something to it; killed at the end of the block.

    Args:
        streams: as for `subprocess.Popen`.
    """
    # A script that starts the tests in its background makes them ignore SIGINT.
    argv = ["env", "--default-signal=INT", *POPCORN, *words]
    with subprocess.Popen(argv, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def machines() -> list[dict[str, object]]:
    """What ``popcorn ls`` lists."""
    listed: list[dict[str, object]] = json.loads(popcorn("ls", "--json").stdout)
    return listed


def qemus(place: Path) -> list[int]:
    """The QEMUs whose sockets or logs are in a folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words: Sequence[str] = process.info["cmdline"] or []
        if (process.info["name"] or "").startswith("qemu-system") and any(str(place) in word for word in words):
            found.append(process.pid)
    return found


def await_no_qemu(place: Path, within_s: float) -> None:
    """Wait until none is left."""
    deadline = time.monotonic() + within_s
    while left := qemus(place):
        assert time.monotonic() < deadline, f"QEMU {left} is still there after {within_s:g} s"
        time.sleep(0.1)
