# SPDX-License-Identifier: Apache-2.0
"""The one way to run another program.

Children die with the process that started them, so that a killed command
leaves nothing running.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from popcorn.errors import DiskFullError, HostError

_ERROR_LINE = re.compile(
    r"(\berror\b|\bfatal\b|undefined reference|No space left|Permission denied|"
    r"No rule to make|not found|cannot )",
    re.IGNORECASE,
)
_SHOWN_ARGV_CHARS = 400
_IF_OURS = '[ "$PPID" = "$0" ] && exec "$@"'


@dataclass(frozen=True)
class Completed:
    """A program that has ended. With a log, ``stdout`` holds both streams."""

    argv: tuple[str, ...]
    returncode: int
    stdout_bytes: bytes
    stderr_bytes: bytes
    elapsed_s: float

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="replace")


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | str | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    inherit: bool = False,
    check: bool = True,
    timeout: float | None = None,
) -> Completed:
    """Run a program to its end.

    Args:
        env: the whole environment, if given; else ours is inherited.
        log: file to which the program's output (both streams) is appended while it runs.
        on_line: called with each line of output (both streams) as it appears.
        inherit: the program writes where we write, and nothing of it is kept.
        check: whether a non-zero exit status raises.
        timeout: in seconds; the program and its children are killed after it.

    Raises:
        HostError: the program is not there, took too long, or (with check) failed.
        DiskFullError: it failed and said that the disk is full.
    """
    words = tuple(os.fspath(word) for word in argv)
    require_program(words[0], env)
    began = time.monotonic()
    payload = input.encode() if isinstance(input, str) else input
    try:
        process = subprocess.Popen(
            dying_with_parent(words),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL if payload is None else subprocess.PIPE,
            stdout=None if inherit else subprocess.PIPE,
            stderr=None if inherit else subprocess.STDOUT if log or on_line else subprocess.PIPE,
        )
    except OSError as error:
        raise HostError(f"cannot run {shown(words)}: {error.strerror}") from error
    expired = threading.Event()
    timer = None
    if timeout is not None:
        timer = threading.Timer(timeout, _expire, (process, expired))
        timer.daemon = True
        timer.start()
    try:
        if (log or on_line) and not inherit:
            stdout, stderr = _follow(process, payload, words, log, on_line), b""
        else:
            stdout, stderr = (stream or b"" for stream in process.communicate(payload))
    finally:
        if timer is not None:
            timer.cancel()
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()
    done = Completed(words, process.returncode, stdout, stderr, time.monotonic() - began)
    if expired.is_set():
        raise HostError(f"{shown(words)} did not end within {timeout:g} s and was killed{_where(log)}")
    if check and done.returncode != 0:
        raise failure(done, log)
    return done


def failure(done: Completed, log: Path | None = None) -> HostError:
    """The error that tells why a program failed."""
    output = (done.stderr if done.stderr.strip() else done.stdout).splitlines()
    reason = first_error_line(output)
    said = f": {reason}" if reason else ""
    if any("No space left on device" in line for line in output):
        return DiskFullError(
            f"the disk is full: {shown(done.argv)} failed{said}{_where(log)}",
            hint="free some space (`popcorn doctor` shows the caches and their sizes), or set POPCORN_CACHE to a "
            "directory on a larger disk",
        )
    status = (
        f"was killed by {signal.Signals(-done.returncode).name}"
        if done.returncode < 0
        else f"ended with status {done.returncode}"
    )
    return HostError(f"{shown(done.argv)} {status}{said}{_where(log)}")


def first_error_line(lines: Sequence[str]) -> str:
    """The first line that looks like an error's cause, else the last one that says anything."""
    for line in lines:
        if _ERROR_LINE.search(line):
            return line.strip()
    for line in reversed(lines):
        if line.strip():
            return line.strip()
    return ""


def shown(argv: Sequence[str]) -> str:
    """A command line as a person would type it, shortened."""
    text = shlex.join(argv)
    return text if len(text) <= _SHOWN_ARGV_CHARS else text[:_SHOWN_ARGV_CHARS] + " …"


def require_program(name: str, env: Mapping[str, str] | None = None) -> str:
    """Path of a program.

    Raises:
        HostError: it is not on the PATH.
    """
    path = shutil.which(name, path=None if env is None else env.get("PATH"))
    if path is None:
        raise HostError(
            f"the program {name!r} is not on this host (searched PATH)",
            hint="`popcorn doctor` lists the packages that are missing",
        )
    return path


def dying_with_parent(argv: Sequence[str], *, death_signal: str = "TERM") -> list[str]:
    """The command line that runs argv so that the kernel ends it when its parent thread ends; for this process alone.

    A parent that ended before it was asked for its death's signal sends none: who comes from setpriv looks.
    """
    setpriv = _setpriv()
    if setpriv is None:
        return list(argv)
    return [setpriv, "--pdeathsig", death_signal, "--", "/bin/sh", "-c", _IF_OURS, str(os.getpid()), *argv]


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    try:
        root = psutil.Process(pid)
        victims = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue


@functools.cache
def _setpriv() -> str | None:
    return shutil.which("setpriv")


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    kill_tree(process.pid)


def _follow(
    process: subprocess.Popen[bytes],
    payload: bytes | None,
    words: tuple[str, ...],
    log: Path | None,
    on_line: Callable[[str], None] | None,
) -> bytes:
    feeder = None
    if payload is not None:
        feeder = threading.Thread(target=_feed, args=(process, payload), daemon=True)
        feeder.start()
    assert process.stdout is not None
    chunks = []
    sink = None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        sink = log.open("ab")
    try:
        if sink is not None:
            sink.write(f"+ {shlex.join(words)}\n".encode())
        for line in process.stdout:
            chunks.append(line)
            if sink is not None:
                sink.write(line)
                sink.flush()
            if on_line is not None:
                on_line(line.decode(errors="replace").rstrip("\n"))
    finally:
        if sink is not None:
            sink.close()
    process.wait()
    if feeder is not None:
        feeder.join()
    return b"".join(chunks)


def _feed(process: subprocess.Popen[bytes], payload: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(payload)
        process.stdin.close()
    except BrokenPipeError:
        pass


def _where(log: Path | None) -> str:
    return f" (log: {log})" if log is not None else ""
