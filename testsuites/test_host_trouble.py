# SPDX-License-Identifier: Apache-2.0
"""What the host lacks or takes away is told with cause, place and remedy; exit status 3, and nothing left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import POPCORN, await_no_qemu, machines, popcorn, qemus, started

from popcorn.config import load_machine
from popcorn.dirs import cache_dir
from popcorn.machine.assemble import kernel_files
from popcorn.plan import make_plan

_UP = ("up", "--machine", "small", "--policy", "per-node", "--accel", "tcg", "--cold")
_GONE_S = 8.0
_ENDED_S = 30.0
_OLD_QEMU = "#!/bin/sh\necho 'QEMU emulator version 6.1.0 (a stand-in)'\n"


def _told(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 3, done.stderr
    for text in said:
        assert text in done.stderr, done.stderr
    assert "hint:" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def _nothing_left(private_dirs: Path) -> None:
    assert machines() == []
    assert qemus(private_dirs) == []


def _limited(limit: int, size: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*POPCORN, *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(limit, (size, size)),
    )


def test_a_qemu_that_is_too_old_is_told_before_anything_is_built(
    private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (private_dirs / "bin").mkdir()
    old = private_dirs / "bin" / "qemu-system-x86_64"
    old.write_text(_OLD_QEMU)
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{private_dirs / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("POPCORN_CACHE", str(private_dirs / "cache"))
    for words in (_UP, ("demo", "--machine", "small"), ("bench", "boot", "--machine", "small")):
        _told(popcorn(*words), "qemu-system-x86_64 is version 6.1; at least 7.2 is needed", "Debian 12 or newer")
    assert not (private_dirs / "cache" / "store").exists()


def test_qemu_that_gets_no_memory_is_told(private_dirs: Path) -> None:
    _built()
    done = _limited(resource.RLIMIT_AS, 3 << 30, *_UP)
    _told(done, "QEMU did not start", "Cannot allocate memory", "`ulimit -v`", str(private_dirs / "runs"))
    _nothing_left(private_dirs)


def test_a_limit_on_files_is_told_for_the_machines_memory(private_dirs: Path) -> None:
    _built()
    done = _limited(resource.RLIMIT_FSIZE, 1 << 30, *_UP)
    _told(done, "cannot make 2048 MiB of memory for node 0 of the machine: File too large", "`ulimit -f`")
    _nothing_left(private_dirs)


def test_a_limit_on_files_is_told_for_what_is_written(private_dirs: Path) -> None:
    _built()
    _told(_limited(resource.RLIMIT_FSIZE, 1 << 20, *_UP), "File too large", "`ulimit -f unlimited`")
    _nothing_left(private_dirs)


def test_a_qemu_that_is_killed_is_told_to_whoever_waits_for_a_kernel(private_dirs: Path) -> None:
    try:
        assert popcorn(*_UP).returncode == 0
        with started("exec", "4", "--", "sleep", "600", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            time.sleep(2)
            assert waiting.poll() is None
            (qemu,) = qemus(private_dirs)
            os.kill(qemu, signal.SIGKILL)
            out, err = waiting.communicate(timeout=_ENDED_S)
        told = subprocess.CompletedProcess(waiting.args, waiting.returncode, out, err)
        _told(told, "QEMU was killed by SIGKILL", str(private_dirs / "runs"))
        await_no_qemu(private_dirs, _GONE_S)
        for words in (("exec", "4", "--", "true"), ("restart", "4"), ("console", "4")):
            _told(popcorn(*words), "the machine 'default' has died: QEMU was killed by SIGKILL", "popcorn up")
        diagnosed = popcorn("diagnose")
        assert "the machine: QEMU was killed by SIGKILL" in diagnosed.stdout
        # What was recorded is there, and the name can be used again.
        assert "Linux version" in popcorn("log", "4").stdout
        assert popcorn(*_UP).returncode == 0
    finally:
        popcorn("down", "--all")
    _nothing_left(private_dirs)


@pytest.fixture
def read_only(short_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Shows a folder read-only at another place; that takes root, and a container may still forbid it."""
    place = short_path / "ro"

    def make(folder: Path) -> Path:
        place.mkdir()
        for mount in (["--bind", folder, place], ["-o", "remount,ro,bind", place]):
            done = subprocess.run(["mount", *mount], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                why = done.stderr.partition("\n")[0].rpartition(": ")[2]
                pytest.skip(f"no folder can be mounted read-only here: {why}")
        return place

    yield make
    if place.is_dir():
        subprocess.run(["umount", place], check=False, stderr=subprocess.DEVNULL)


def test_a_cache_that_is_read_only_is_told(
    read_only: Callable[[Path], Path], private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = private_dirs / "empty"
    empty.mkdir()
    place = read_only(empty)
    monkeypatch.setenv("POPCORN_CACHE", str(place))
    for words in (_UP, ("build",), ("build", "images")):
        _told(popcorn(*words), "Read-only file system", str(place), "POPCORN_CACHE")
    _nothing_left(private_dirs)


def test_folders_for_runs_and_sockets_that_are_read_only_are_told(
    read_only: Callable[[Path], Path], private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built()
    empty = private_dirs / "empty"
    empty.mkdir()
    place = read_only(empty)
    monkeypatch.setenv("POPCORN_RUNS", str(place))
    _told(popcorn(*_UP), "Read-only file system", str(place), "POPCORN_RUNS")
    _nothing_left(private_dirs)


def _built() -> None:
    """So that what is tried is not the build."""
    kernel_files(make_plan(load_machine("small"), "per-node"))
    assert cache_dir().is_dir()
