# SPDX-License-Identifier: Apache-2.0
"""A full disk is told with place and remedy, and nothing is left behind.

Too little room for what is asked is the user's mistake (2), a disk that fills up meanwhile the host's failure (3).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import await_no_qemu, machines, popcorn, qemus, started

from popcorn.config import load_machine
from popcorn.dirs import cache_dir, source_root
from popcorn.machine.assemble import kernel_files
from popcorn.plan import make_plan

_UP = ("up", "--machine", "small", "--policy", "per-node", "--accel", "tcg", "--cold")
_START_S = 120.0
_GONE_S = 8.0


@pytest.fixture
def disk(short_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of a size such as 1m; mounting one takes root, and a container may still forbid it."""
    place = short_path / "d"

    def make(size: str) -> Path:
        place.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "small-disk", place]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            place.rmdir()
            # Without the path, so that all who skip for it say the same.
            why = done.stderr.partition("\n")[0].rpartition(": ")[2]
            pytest.skip(f"no small file system can be mounted here: {why}")
        return place

    yield make
    if place.is_dir():
        subprocess.run(["umount", place], check=True)


def _refused(done: subprocess.CompletedProcess[str], cause: str, place: Path, variable: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    assert f"the disk is full: {cause}" in done.stderr, done.stderr
    assert str(place) in done.stderr
    assert f"set {variable} to a directory on a larger disk" in done.stderr
    assert "Traceback" not in done.stderr


def _up_is_refused(cause: str, place: Path, variable: str, private_dirs: Path, status: int = 2) -> None:
    try:
        _refused(popcorn(*_UP), cause, place, variable, status)
        assert machines() == []
        assert qemus(private_dirs) == []
    finally:
        # Of this test's own.
        popcorn("down", "--all")


def _files(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file() and path.suffix != ".lock")


def _fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    assert shutil.disk_usage(place).free == 0


def test_up_needs_room_to_record(
    disk: Callable[[str], Path], private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("1m")
    monkeypatch.setenv("POPCORN_RUNS", str(place))
    _up_is_refused("recording a run needs 32 MiB free", place, "POPCORN_RUNS", private_dirs)
    assert _files(place) == []


def test_up_needs_room_for_the_initrd(
    disk: Callable[[str], Path], private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("1m")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    _up_is_refused("writing the initrd ran out of space", place, "XDG_RUNTIME_DIR", private_dirs, 3)
    assert _files(place) == []
    assert _files(private_dirs / "runs") == []


def test_up_ends_the_machine_when_the_disk_fills_up_meanwhile(
    disk: Callable[[str], Path], private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("40m")
    monkeypatch.setenv("POPCORN_RUNS", str(place))
    try:
        with started(*_UP, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + _START_S
            while not any(path.stat().st_size for path in place.rglob("serial.log")):
                assert process.poll() is None, "it ended before the primary said a word"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            _fill(place)
            out, err = process.communicate(timeout=_START_S)
    finally:
        left = machines()
        popcorn("down", "--all")
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    _refused(done, "recording a run needs 32 MiB free", place, "POPCORN_RUNS", 3)
    assert left == []
    await_no_qemu(private_dirs, _GONE_S)


def test_a_machine_that_there_is_no_room_to_save_goes_on(
    disk: Callable[[str], Path], private_dirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("1m")
    monkeypatch.setenv("POPCORN_SNAPSHOTS", str(place))
    try:
        up = popcorn(*_UP)
        assert up.returncode == 0, up.stderr
        _refused(popcorn("snapshot", "state"), "saving the snapshot state ran out", place, "POPCORN_SNAPSHOTS", 3)
        answer = popcorn("exec", "all", "--", "sh", "-c", "exit 0")
        assert answer.returncode == 0, answer.stderr
    finally:
        popcorn("down", "--all")
    assert _files(place) == []


def test_build_needs_room_before_it_fetches_anything(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("1m")
    monkeypatch.setenv("POPCORN_CACHE", str(place))
    _refused(popcorn("build"), "fetching linux-source-6.12 needs 1.0 GiB free", place, "POPCORN_CACHE")
    assert _files(place) == []


def test_build_leaves_nothing_when_the_disk_fills_up_meanwhile(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_files(make_plan(load_machine("small"), "per-node"))
    place, whole = disk("64k"), cache_dir()
    # Everything but the images is there already.
    (place / "store").mkdir()
    for entry in [*whole.iterdir(), *(whole / "store").iterdir()]:
        if entry.name not in ("store", "image"):
            (place / entry.relative_to(whole)).symlink_to(entry)
    monkeypatch.setenv("POPCORN_CACHE", str(place))
    _refused(popcorn("build", "images"), "building image", place / "store" / "image", "POPCORN_CACHE", 3)
    assert list((place / "store" / "image").iterdir()) == []


def test_the_launcher_needs_room_for_its_environment(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("1m")
    monkeypatch.setenv("POPCORN_CACHE", str(place))
    done = subprocess.run([source_root() / "popcorn", "doctor"], capture_output=True, text=True, check=False)
    _refused(done, "making the Python environment needs", place, "POPCORN_CACHE")
    assert _files(place) == ["lock"]
