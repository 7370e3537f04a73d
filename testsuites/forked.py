# SPDX-License-Identifier: Apache-2.0
"""Commands forked off a process that has imported the program: importing it takes longer than most of them."""

from __future__ import annotations

import gc
import os
import pkgutil
import random
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import popcorn
from popcorn.cli.main import main

_CONTEXT = get_context("forkserver")
# What commands import when they come to use it.
_LIBRARIES = ("fabric", "invoke", "paramiko", "pexpect", "qemu.qmp", "sqlite3")


def run(words: tuple[str, ...], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command as `subprocess.run` would: with this process's environment, in its folder.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    # It counts when the first one begins, which starts the server.
    _CONTEXT.set_forkserver_preload([*_modules(), *_LIBRARIES])
    with TemporaryFile() as out, TemporaryFile() as err:
        process = _CONTEXT.Process(
            target=_run, args=(words, dict(os.environ), Path.cwd(), *(_name(file) for file in (out, err)))
        )
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["popcorn", *words], timeout_s, _text(out), _text(err))
        return subprocess.CompletedProcess(["popcorn", *words], process.exitcode, _text(out), _text(err))


def _modules() -> list[str]:
    return [
        module.name for module in pkgutil.walk_packages(popcorn.__path__, "popcorn.") if ".testing" not in module.name
    ]


def _name(file: IO[bytes]) -> str:
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _run(words: tuple[str, ...], environment: dict[str, str], folder: Path, out: str, err: str) -> None:
    for name, number in ((out, 1), (err, 2)):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    # To look through all that was imported again and again takes longer than most commands.
    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # Otherwise all of them would have the server's.
    random.seed()
    sys.argv = ["popcorn", *words]
    sys.exit(main())
