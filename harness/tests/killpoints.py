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
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SEED = 20141
KILLS = 20 if os.environ.get("POPCORN_SLOW") else 3
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
    how = "kill_this_group" if group else "kill_this_process"
    program = (
        f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]\n"
        f"import killpoints\n"
        f"def begin():\n    global taken; taken = killpoints.die_at({step}, killpoints.{how})\n"
        f"{script}\nprint(taken())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
        start_new_session=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


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
