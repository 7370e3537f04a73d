# SPDX-License-Identifier: Apache-2.0
"""What Popcorn writes is for nobody else's eyes, however careless the user's umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_machine import Boot

from popcorn.cli.main import main
from popcorn.diagnose.elfcore import write_core
from popcorn.diagnose.layout import KernelLayout
from popcorn.dirs import cache_dir, runs_dir, runtime_dir
from popcorn.image import keys


@pytest.fixture(autouse=True)
def _careless() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _open_to_others(place: Path) -> list[str]:
    """What others could read or write below a folder, as far as they come."""
    found = []
    if place.stat().st_mode & 0o077:
        found.append(str(place))
        for path in place.iterdir():
            if path.is_dir() and not path.is_symlink():
                found += _open_to_others(path)
    return found


def test_the_folders_of_the_cache_the_runs_and_the_machines_are_private() -> None:
    for place in (cache_dir(), runs_dir(), runtime_dir()):
        assert _open_to_others(place) == []


def test_a_machine_that_is_up_has_its_sockets_logs_and_memory_for_itself(boot: Boot) -> None:
    with boot(tied=False, keep_memory=True) as machine:
        run_dir = machine.run_dir
        sockets = [path for path in machine.record.directory.iterdir() if path.is_socket()]
        assert {path.name for path in sockets} >= {"control.sock", "qmp.sock", "monitor.sock"}
        for place in (machine.record.directory, run_dir):
            assert _open_to_others(place) == []
        for path in (
            *sockets,
            run_dir / "events.jsonl",
            run_dir / "qemu.log",
            machine.record.directory / "record.json",
        ):
            if path.name not in ("qmp.sock", "monitor.sock"):  # the stand-in for QEMU makes these
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        psutil.Process(machine.record.qemu_pid).kill()
        while machine.alive():
            pass
    for name in ("region.bin", "memory-node0.bin", "console/4.log"):
        assert stat.S_IMODE((run_dir / name).stat().st_mode) & 0o077 == 0, name


def test_a_run_folder_that_the_user_names_is_made_private(boot: Boot, tmp_path: Path) -> None:
    with boot(run_dir=tmp_path / "of" / "mine"):
        assert _open_to_others(tmp_path / "of" / "mine") == []


def test_keys_are_private() -> None:
    made = keys()
    for path in (made.client, made.host):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_dump_is_private_and_goes_into_no_file_that_others_prepared(tmp_path: Path) -> None:
    path = tmp_path / "core"
    prepared = tmp_path / f".core.{os.getpid()}"
    prepared.write_text("theirs")
    prepared.chmod(0o666)
    watched = prepared.open("rb")
    layout = KernelLayout(0, 0xFFFFFFFF81000000, 4096, 0xFFFF888000000000)
    write_core(path, layout, [(0x1000000, 1 << 20)], b"", lambda *_: None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert watched.read() == b"theirs"
    watched.close()


def test_nothing_that_a_command_makes_can_be_written_by_everybody(tmp_path: Path) -> None:
    svg = tmp_path / "plan.svg"
    made = tmp_path / "made"
    assert main(["plan", "--machine", "small", "--policy", "per-node", "--svg", str(svg)]) == 0
    made.mkdir()
    assert stat.S_IMODE(made.stat().st_mode) & 0o002 == 0
    assert stat.S_IMODE(svg.stat().st_mode) & 0o002 == 0


def test_the_launcher_makes_a_private_cache(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).resolve().parents[1])!r}]\n"
        "import launch\nlaunch._make = lambda place, requirements: None\nlaunch.find_or_make(['x'])\n"
    )
    cache = tmp_path / "cache"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "POPCORN_CACHE": str(cache)}, check=True)
    assert (cache / "python").is_dir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
