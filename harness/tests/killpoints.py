# SPDX-License-Identifier: Apache-2.0
"""Killing a program at each of its steps, as `kill -9` would.

A step is an event that Python's audit hooks see and that may change something outside the process: opening, renaming
and removing files, making directories, starting programs. Random times would seldom hit the few that matter.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forks import FORKS, serve_forks

from popcorn.testing.switches import slow

HERE = Path(__file__).parent
SEED = 20141
KILLS = 20 if slow() else 3
"""Of each thing that is tried."""

_STEPS = frozenset(
    (
        *("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"),
        *("shutil.rmtree", "subprocess.Popen", "socket.bind", "socket.connect", "fcntl.flock", "fcntl.lockf"),
    )
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_DEADLINE_S = 60.0


def die_at(step: int, whom: Callable[[], None]) -> Callable[[], int]:
    """Call ``whom`` before this process takes its step number ``step`` from now on; never if it is negative.

    Returns:
        what tells how many steps there were.
    """
    taken = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal taken
        if event in _STEPS or (event == "open" and arguments[2] & _WRITES):
            taken += 1
            if taken == step + 1:
                whom()

    sys.addaudithook(hook)
    return lambda: taken


def kill_this_process() -> None:
    """As the kernel does it: nothing is closed, and nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_this_group() -> None:
    """This process and those that it started, but for those that have a session of their own."""
    os.killpg(0, signal.SIGKILL)


def run_to(step: int, script: str, *, group: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a Python script that is killed at a step; without an end it prints how many it took as its last line.

    Args:
        script: what it does first is not counted: up to the line ``begin()``.
        group: kill the whole process group.
    """
    with Started(script, step, group=group) as started:
        return started.ended()


class Started:
    """A Python script that runs in a process of its own until the block ends."""

    def __init__(self, script: str, step: int = -1, *, group: bool = False) -> None:
        """As for `run_to`."""
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        words = (step, script, group, dict(os.environ), *map(str, self._said))
        self.process = FORKS.Process(target=_killed_at, args=words)

    def __enter__(self) -> Started:
        serve_forks()
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self._folder.cleanup()

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and tell what it was like."""
        self.process.join(_DEADLINE_S)
        stdout, stderr = (path.read_text() if path.exists() else "" for path in self._said)
        if self.process.exitcode is None:
            raise TimeoutError(f"a script did not end within {_DEADLINE_S:g} s: {stderr}")
        return subprocess.CompletedProcess(["script"], self.process.exitcode, stdout, stderr)


def _killed_at(step: int, script: str, group: bool, environment: dict[str, str], stdout: str, stderr: str) -> None:
    """What runs in a process of its own."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = True
    for path, number in ((stdout, 1), (stderr, 2)):
        into = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(into, number)
        os.close(into)
    taken: Callable[[], int]

    def begin() -> None:
        nonlocal taken
        taken = die_at(step, kill_this_group if group else kill_this_process)

    exec(compile(script, "script", "exec"), {"__name__": "__main__", "begin": begin})
    print(taken(), flush=True)


def steps_of(script: str, undo: Callable[[], object], *, runs: int = 2) -> int:
    """How many steps a script takes when nobody kills it.

    Args:
        undo: takes back what it did; what it leaves nevertheless, it does the first time only.
        runs: of which the last counts.
    """
    taken = 0
    for _ in range(runs):
        done = run_to(-1, script)
        assert done.returncode == 0, done.stderr
        taken = int(done.stdout.splitlines()[-1])
        undo()
    return taken


def some_of(nr_steps: int, name: str, kills: int = KILLS) -> list[int]:
    """The steps at which something is killed, always the same ones."""
    chosen = random.Random(f"{SEED} {name}")
    return sorted(chosen.sample(range(nr_steps), min(kills, nr_steps)))
