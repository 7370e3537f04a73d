# SPDX-License-Identifier: Apache-2.0
"""Every unit test has caches, runs and sockets of its own."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from fake_machine import Boot, booter
from hypothesis import settings
from own_suite import installed as installed
from users_cache import REMEMBERED, take_users_cache
from vty_terminals import kernels as kernels
from vty_terminals import line as line
from vty_terminals import silent_line as silent_line
from vty_terminals import vty_program as vty_program

from popcorn.testing.switches import slow

# A loaded machine is no reason to fail, and the same checkout is tried with the same examples everywhere.
settings.register_profile("popcorn", deadline=None, derandomize=True, max_examples=40)
# A larger search, with other examples each time.
settings.register_profile("slow", deadline=None, derandomize=False, max_examples=3000, print_blob=True)
settings.load_profile("slow" if slow() else "popcorn")

pytest_plugins = ["pytester"]

# nohup, and a script that starts tests in its background, have them ignore signals, which whatever they start would
# do as well. What is handled is not inherited.
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(autouse=True)
def _private_dirs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    place: Path = tmp_path_factory.mktemp("popcorn")
    monkeypatch.setenv("POPCORN_CACHE", str(place / "cache"))
    monkeypatch.setenv("POPCORN_RUNS", str(place / "runs"))
    monkeypatch.setenv("POPCORN_SNAPSHOTS", str(place / "snapshots"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    # A third of the start of each pytest that a test starts, and none of those uses it.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")


@pytest.fixture
def users_cache(_private_dirs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache as the user has it, for kernel sources that may be in it."""
    take_users_cache(monkeypatch)


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """Boots a machine whose QEMU is a stand-in."""
    return booter(tmp_path, monkeypatch)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was not done again."""
    properties = [one for report in terminalreporter.getreports("passed") for one in report.user_properties]
    for what, count in Counter(what for name, what in properties if name == REMEMBERED).items():
        terminalreporter.line(
            f"{count} × {what}: unchanged, so the report in the cache was taken; POPCORN_SLOW=1 does it anew"
        )
