# SPDX-License-Identifier: Apache-2.0
"""Files to and from kernels, with ssh servers on this host as the kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback_ssh import loopback_ssh

from popcorn.cli.cp import Place, parse_place
from popcorn.cli.main import main
from popcorn.config import load_machine
from popcorn.dirs import runs_dir
from popcorn.errors import GuestError
from popcorn.guest.copy import fetch_file, send_file
from popcorn.machine import registry
from popcorn.machine.machine import Machine
from popcorn.machine.registry import PLAN_FILE
from popcorn.plan import make_plan

CONTENT = bytes(range(256)) * 3000
# On a busy host a command takes seconds to begin; that it ended meanwhile is noticed at once.
_ANSWER_S = 120.0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    plan = make_plan(load_machine("small"), "0-3;4-7")
    run_dir = runs_dir() / "run"
    run_dir.mkdir()
    (run_dir / PLAN_FILE).write_text(plan.to_json())
    programs = tmp_path / "programs"
    programs.mkdir()
    claim = registry.claim("default")
    with loopback_ssh(programs) as port:
        record = registry.Record(
            name="default", status="up", run_dir=str(run_dir), ssh_port=port, kernels=(0, 4), started=1.0
        )
        registry.write_record(record)
        with Machine(record) as machine:
            yield machine
    os.close(claim.lock)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.write_bytes(CONTENT)
    path.chmod(0o750)
    return path


def fake_program(tmp_path: Path, name: str, script: str) -> None:
    path = tmp_path / "programs" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("id", [0, 4])
def test_a_file_goes_in_and_out_with_its_permissions(machine: Machine, source: Path, tmp_path: Path, id: int) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    assert send_file(machine.ssh(id), source, str(there)) == len(CONTENT)
    assert (there.read_bytes(), there.stat().st_mode & 0o777) == (CONTENT, 0o750)
    assert fetch_file(machine.ssh(id), str(there), back) == len(CONTENT)
    assert (back.read_bytes(), back.stat().st_mode & 0o777) == (CONTENT, 0o750)


def test_an_empty_file_is_a_file(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert send_file(machine.ssh(4), tmp_path / "empty", str(tmp_path / "there")) == 0
    assert fetch_file(machine.ssh(4), str(tmp_path / "there"), tmp_path / "back") == 0
    assert (tmp_path / "back").read_bytes() == b""


def test_in_a_folder_a_file_keeps_its_name(machine: Machine, source: Path, tmp_path: Path) -> None:
    for name in ("there", "back"):
        (tmp_path / name).mkdir()
    assert main(["cp", str(source), f"4:{tmp_path}/there"]) == 0
    assert main(["cp", f"4:{tmp_path}/there/a file", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back" / "a file").read_bytes() == CONTENT


def test_a_file_goes_from_kernel_to_kernel_under_its_name(machine: Machine, source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert main(["cp", f"4:{source}", f"0:{tmp_path}/there/"]) == 0
    assert (tmp_path / "there" / "a file").read_bytes() == CONTENT


def test_what_was_damaged_on_its_way_in_is_not_kept(machine: Machine, source: Path, tmp_path: Path) -> None:
    fake_program(tmp_path, "cat", "/bin/cat; echo more")
    with pytest.raises(GuestError, match="what arrived in kernel 4 has"):
        send_file(machine.ssh(4), source, str(tmp_path / "there"))
    assert not list(tmp_path.glob("there*"))


def test_what_was_damaged_on_its_way_out_is_not_kept(machine: Machine, source: Path, tmp_path: Path) -> None:
    fake_program(tmp_path, "cat", '/bin/cat "$@"; echo more')
    (tmp_path / "back").write_bytes(b"before")
    with pytest.raises(GuestError, match="the file in kernel 4 now has another"):
        fetch_file(machine.ssh(4), str(source), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"before"
    assert not list(tmp_path.glob(".back*"))


def test_a_kernel_that_cannot_write_says_why(
    machine: Machine, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_program(tmp_path, "cat", "head -c 1000 >/dev/null; echo cat: the disk is full >&2; exit 1")
    assert main(["cp", str(source), f"4:{tmp_path}/there"]) == 2
    assert "there in kernel 4: cat: the disk is full" in capfd.readouterr().err
    assert not list(tmp_path.glob("there*"))


def test_a_file_that_does_not_fit_is_refused_before_it_is_sent(
    machine: Machine, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_program(tmp_path, "stat", "echo 187 4096")
    assert main(["cp", str(source), f"4:{tmp_path}/there"]) == 2
    assert f"it has {len(CONTENT)} bytes, and there is room for {187 * 4096}" in capfd.readouterr().err
    fake_program(tmp_path, "stat", "echo 188 4096")
    assert main(["cp", str(source), f"4:{tmp_path}/there"]) == 0


@pytest.mark.parametrize(
    ("source_text", "target_text", "said"),
    [
        ("4:/nowhere", ".", "cannot read /nowhere in kernel 4"),
        ("4:/tmp", ".", "it is a folder"),
        ("/nowhere", "4:/tmp", "cannot read /nowhere"),
        (__file__, "4:/nowhere/x", "cannot write /nowhere/x in kernel 4: there is no folder /nowhere"),
        (__file__, "4:/tmp/nowhere/", "there is no folder /tmp/nowhere"),
        (f"4:{__file__}", "nowhere/", "there is no folder nowhere"),
        ("/tmp", "4:/tmp", "it is a folder"),
        (f"4:{__file__}", "/nowhere/x", "cannot write /nowhere/x"),
        (__file__, "5:/tmp", "no kernel 5"),
        (__file__, "/tmp", "is in a kernel"),
        (__file__, "4:", "no path"),
    ],
)
def test_a_place_that_cannot_be_is_the_users_mistake(
    machine: Machine, source_text: str, target_text: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["cp", source_text, target_text]) == 2
    assert said in capfd.readouterr().err


def test_what_is_no_regular_file_is_neither_written_nor_read(
    machine: Machine, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words in (
        [str(source), f"4:{pipe}"],
        [f"4:{source}", str(pipe)],
        [f"4:{pipe}", str(tmp_path / "new")],
        [str(pipe), f"4:{tmp_path}/new"],
        ["4:/dev/zero", str(tmp_path / "new")],
        ["/dev/zero", f"4:{tmp_path}/new"],
        [f"4:{source}", "/dev/null"],
    ):
        assert main(["cp", *words]) == 2, words
        assert "no regular file" in capfd.readouterr().err
    assert pipe.is_fifo()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("inward", [True, False])
def test_what_a_symbolic_link_names_is_written(machine: Machine, source: Path, tmp_path: Path, inward: bool) -> None:
    link, named = tmp_path / "link", tmp_path / "named"
    named.write_bytes(b"before")
    link.symlink_to(named)
    words = [str(source), f"4:{link}"] if inward else [f"4:{source}", str(link)]
    assert main(["cp", *words]) == 0
    assert link.is_symlink()
    assert named.read_bytes() == CONTENT
    named.unlink()
    assert main(["cp", *words]) == 2
    assert not named.exists()


def test_files_beside_the_target_stay_as_they_are(machine: Machine, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "u.part").write_text("another")
    assert main(["cp", str(source), f"4:{folder}/u"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["u", "u.part"]
    assert (folder / "u.part").read_text() == "another"


def test_a_name_that_is_no_text_is_a_name(machine: Machine, source: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff name")
    assert main(["cp", str(source), f"4:{tmp_path}/{name}"]) == 0
    assert main(["cp", f"4:{tmp_path}/{name}", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / name).read_bytes() == CONTENT


def test_nothing_stays_of_a_copy_that_was_broken_off(
    machine: Machine, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    scratch = []

    def interrupt(nr_bytes: int, total: int) -> None:
        await_that(lambda: len(list((tmp_path / "there").iterdir())) == 1)
        scratch.extend((tmp_path / "there").iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_file(machine.ssh(4), source, str(tmp_path / "there"), interrupt)
    assert scratch
    await_that(lambda: not list((tmp_path / "there").iterdir()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_copy_ended_by_a_signal_leaves_nothing_on_either_side(
    machine: Machine, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    # It gets half of the file and then no more.
    fake_program(tmp_path, "cat", "head -c 300000 /dev/zero; exec sleep 300")
    (tmp_path / "source").write_bytes(CONTENT)
    for words in (["cp", str(tmp_path / "source"), f"4:{folder}"], ["cp", f"4:{tmp_path}/source", str(folder)]):
        copying = subprocess.Popen([sys.executable, "-P", "-m", "popcorn", *words], stderr=subprocess.PIPE)
        await_that(lambda: any(path.stat().st_size for path in folder.iterdir()), while_running=copying)
        copying.send_signal(number)
        _, said = copying.communicate(timeout=_ANSWER_S)
        assert (copying.returncode, b"Traceback" in said) == (128 + number, False), said
        await_that(lambda: not list(folder.iterdir()))


# A signal is sent when the main thread has just taken the lock that it takes most often: as paramiko does it, an
# exception there leaves it taken.
_SIGNALLED_WITH_A_LOCK = """
import os, signal, sys, threading, paramiko
from popcorn.cli.main import main

class Lock:
    taken = 0
    def __init__(self):
        self.lock = threading.Lock()
        self.release = self.lock.release
    def acquire(self, *arguments):
        got = self.lock.acquire(*arguments)
        if threading.current_thread() is threading.main_thread():
            Lock.taken += 1
            if Lock.taken == int(sys.argv[1]):
                os.kill(os.getpid(), int(sys.argv[2]))
        return got

def init(self, *arguments, **words):
    begin(self, *arguments, **words)
    self.clear_to_send_lock = Lock()

begin, paramiko.Transport.__init__ = paramiko.Transport.__init__, init
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("taken", [2, 6])
def test_a_signal_while_the_library_holds_a_lock_ends_a_copy_too(
    machine: Machine, source: Path, tmp_path: Path, taken: int, number: signal.Signals
) -> None:
    (tmp_path / "folder").mkdir()
    fake_program(tmp_path, "cat", "head -c 300000 /dev/zero; exec sleep 300")
    words = [str(taken), str(int(number)), "cp", str(source), f"4:{tmp_path}/folder"]
    argv = ["env", "--default-signal=INT", sys.executable, "-P", "-c", _SIGNALLED_WITH_A_LOCK, *words]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as copying:
        try:
            _, said = copying.communicate(timeout=_ANSWER_S)
        finally:
            copying.kill()
    assert copying.returncode == 128 + number, said
    await_that(lambda: not list((tmp_path / "folder").iterdir()))


def await_that(holds: Callable[[], bool], while_running: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + _ANSWER_S
    while not holds():
        if while_running is not None:
            assert while_running.poll() is None, while_running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_a_number_before_a_colon_is_a_kernel() -> None:
    assert parse_place("12:/a:b") == Place(12, "/a:b")
    assert parse_place("./1:b") == Place(None, "./1:b")
    assert parse_place("host:b") == Place(None, "host:b")
