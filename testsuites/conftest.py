# SPDX-License-Identifier: Apache-2.0
"""The suites of Popcorn itself: on `popcorn.testing.plugin`, with fixtures for tests that run the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from tempfile import mkdtemp

import pytest
from command import POPCORN
from own_suite import installed as installed

# By this name it is loaded once, be it installed or not.
pytest_plugins = ["popcorn.testing.plugin"]


@pytest.fixture
def short_path(tmp_path: Path) -> Iterator[Path]:
    """A short name for the test's folder: below the whole one of a worker's there is no room for a socket."""
    folder = Path(mkdtemp(prefix="popcorn-"))
    link = folder / "t"
    link.symlink_to(tmp_path)
    yield link
    link.unlink()
    folder.rmdir()


@pytest.fixture
def private_dirs(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs and sockets of the test's own, so that nobody else's machine is in its way; caches are shared."""
    runtime = short_path / "rt"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("POPCORN_RUNS", str(short_path / "runs"))
    monkeypatch.setenv("POPCORN_SNAPSHOTS", str(short_path / "snapshots"))
    with _ended_with_us():
        yield short_path


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """End the machines of the test when this process is killed: nobody else knows where they are."""
    script = 'read -r done || exec "$@"'
    argv = ["setsid", "--fork", "sh", "-c", script, "sh", *POPCORN, "down", "--all"]
    with subprocess.Popen(argv, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, text=True) as watcher:
        yield
        watcher.communicate("done\n")
