# SPDX-License-Identifier: Apache-2.0
"""Logging in to kernels, running commands and copying files, as a user does it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from command import POPCORN, popcorn, started

from popcorn.errors import GuestError
from popcorn.guest.run import Via, run_in_several
from popcorn.machine.machine import Machine
from popcorn.testing import Kernel

pytestmark = pytest.mark.machine("small", policy="per-core")

_MIB = 1 << 20


@pytest.fixture
def as_user(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `popcorn` does without a name is meant for the test's machine."""
    monkeypatch.setenv("POPCORN_NAME", machine.name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file whose content no other has."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * _MIB + 1))
    path.chmod(0o751)
    return path


@pytest.mark.usefixtures("as_user")
def test_ssh_runs_a_command_with_our_streams_and_ends_as_it_does(kernels: list[int]) -> None:
    words = ["ssh", str(kernels[-1]), "--", "sh", "-c", "cat; hostname >&2; exit 7"]
    done = subprocess.run([*POPCORN, *words], input=b"\0\xffbytes", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"\0\xffbytes", f"kernel-{kernels[-1]}\n".encode())


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("via", ["net", "vty"])
def test_exec_gets_the_same_answer_from_each_kernel_on_either_way(kernels: list[int], via: Via) -> None:
    done = popcorn(
        "exec", "--json", "--via", via, "all", "--", "sh", "-c", "sed -n s/^id:.//p /proc/popcorn/self; echo 'a  b' >&2"
    )
    assert done.returncode == 0, done.stderr
    answers = {int(id): answer for id, answer in json.loads(done.stdout).items()}
    assert answers == {id: {"status": 0, "stdout": f"{id}\n", "stderr": "a  b\n"} for id in kernels}


_MARK = "sleep 7654"


def _running(machine: Machine, ids: list[int]) -> list[int]:
    """Those in which a process of the test runs."""
    look = f"busybox ps -o args | grep -qx '{_MARK}'"
    answers = run_in_several(machine.connections, ["sh", "-c", look], ids, via="net", timeout_s=60)
    return [id for id, done in answers if done.status == 0]


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("way", "number"),
    [
        *product(["exec", "exec in several", "exec in several by line", "ssh"], [signal.SIGINT, signal.SIGKILL]),
        # It is taken as SIGINT is.
        ("exec", signal.SIGTERM),
    ],
)
def test_a_command_ends_with_the_one_that_started_it(
    machine: Machine, kernels: list[int], way: str, number: signal.Signals
) -> None:
    where = kernels[-3:] if "several" in way else kernels[-1:]
    ids = ",".join(map(str, where))
    words = {
        "exec": ["exec", "--via", "net", ids],
        "exec in several": ["exec", "--via", "net", ids],
        "exec in several by line": ["exec", "--via", "vty", ids],
        "ssh": ["ssh", ids],
    }[way]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started(*words, "--", "sh", "-c", f"{_MARK} & {_MARK}", **streams) as command:
        _until(lambda: _running(machine, where) == where)
        command.send_signal(number)
        assert command.wait(60) in (128 + number, -number)
    _until(lambda: not _running(machine, where))
    assert machine.exec(0, ["sh", "-c", "ls -d /tmp/exec.*"]).stdout == b""


@pytest.mark.usefixtures("as_user")
def test_a_command_that_takes_too_long_is_ended(machine: Machine, kernels: list[int]) -> None:
    id = kernels[-1]
    done = popcorn("exec", "--via", "net", "--timeout", "2", str(id), "--", "sh", "-c", f"{_MARK} & {_MARK}")
    assert done.returncode == 3
    assert "did not end within 2 s" in done.stderr
    _until(lambda: not _running(machine, [id]))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("via", ["net", "vty"])
def test_death_by_a_signal_is_128_and_its_number(kernels: list[int], via: Via) -> None:
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGSEGV):
        done = popcorn("exec", "--via", via, str(kernels[-1]), "--", "sh", "-c", f"kill -{int(number)} $$")
        assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


@pytest.mark.usefixtures("as_user")
def test_a_command_that_begins_with_a_dash_is_no_option(kernels: list[int]) -> None:
    for words in (["exec", "--via", "net", str(kernels[-1]), "--"], ["ssh", str(kernels[-1])]):
        done = popcorn(*words, "-l")
        assert done.returncode == 127
        assert "-l: No such file or directory" in done.stderr


@pytest.mark.usefixtures("as_user")
def test_a_copy_that_was_broken_off_leaves_nothing_in_the_kernel(
    machine: Machine, kernels: list[int], source: Path, kernel: Callable[[int], Kernel]
) -> None:
    id = kernels[-1]
    with source.open("r+b") as stream:
        stream.truncate(16 * _MIB)
    kernel(id).shell("mkdir /tmp/there")
    with started("cp", str(source), f"{id}:/tmp/there", stderr=subprocess.DEVNULL) as copying:
        _until(lambda: kernel(id).shell("ls -A /tmp/there") != "")
        copying.send_signal(signal.SIGINT)
        assert copying.wait(60) == 130
    _until(lambda: kernel(id).shell("ls -A /tmp/there") == "")
    kernel(id).shell("rmdir /tmp/there")


def _until(holds: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_fabric_reaches_every_kernel_with_the_primary_as_gateway(machine: Machine, kernels: list[int]) -> None:
    for id in (kernels[0], kernels[-1]):
        with machine.ssh(id).fabric() as connection:
            assert (
                connection.run("sed -n 's/^id: *//p' /proc/popcorn/self", hide=True, in_stream=False).stdout
                == f"{id}\n"
            )


@pytest.mark.machine("small", policy="per-core", scratch=True)
def test_a_kernel_whose_network_is_down_is_reached_by_its_line(
    machine: Machine, kernels: list[int], kernel: Callable[[int], Kernel], capfd: pytest.CaptureFixture[str]
) -> None:
    id = kernels[-1]
    machine.exec(id, ["busybox", "ifconfig", "pcn0", "down"], via="vty", timeout_s=60)
    with pytest.raises(GuestError, match=f"kernel {id} has its network down") as told:
        machine.exec(id, ["true"], via="net", timeout_s=60)
    assert kernel(id).shell("cat /sys/class/net/pcn0/operstate") == "down\n"
    assert "its terminal line is used" in capfd.readouterr().err
    assert "`/init network` there brings it up" in (told.value.hint or "")
    assert machine.exec(id, ["/init", "network"], via="vty", timeout_s=60).stderr == b""
    assert machine.exec(id, ["hostname"], via="net", timeout_s=60).stdout_text == f"kernel-{id}\n"
    # All that it lost with it is there again.
    assert (
        kernel(id).shell("grep -c ' 0x6 .* pcn0' /proc/net/arp; ip route | grep -c default")
        == f"{len(kernels) - 1}\n1\n"
    )


@pytest.mark.usefixtures("as_user")
def test_a_file_goes_through_three_kernels_and_comes_back_whole(
    kernels: list[int], source: Path, tmp_path: Path
) -> None:
    one, other = kernels[1], kernels[-1]
    back = tmp_path / "back"
    for words in (
        [str(source), f"{one}:/tmp"],
        [f"{one}:/tmp/source", f"{other}:/tmp/copy"],
        [f"{other}:/tmp/copy", "0:/tmp/third"],
        ["0:/tmp/third", str(back)],
    ):
        done = popcorn("cp", *words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    assert back.read_bytes() == source.read_bytes()
    assert back.stat().st_mode & 0o777 == 0o751
    popcorn("exec", f"0,{one},{other}", "--", "rm", "-f", "/tmp/source", "/tmp/copy", "/tmp/third")


@pytest.mark.usefixtures("as_user")
def test_a_file_larger_than_a_kernels_memory_is_refused_and_leaves_nothing(
    machine: Machine, kernels: list[int], tmp_path: Path, kernel: Callable[[int], Kernel]
) -> None:
    id = kernels[-1]
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(machine.plan.partition(id).memory_bytes)
    before = kernel(id).shell("ls /tmp")
    done = popcorn("cp", str(path), f"{id}:/tmp/large")
    assert done.returncode == 2
    assert (
        f"cannot write /tmp/large in kernel {id}: it has {path.stat().st_size} bytes, and there is room for"
        in done.stderr
    )
    assert kernel(id).shell("ls /tmp") == before


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["ssh", "77", "--", "true"], "there is no kernel 77"),
        (["exec", "77", "--", "true"], "there is no kernel 77"),
        (["cp", __file__, "77:/tmp"], "there is no kernel 77"),
        (["cp", __file__, "/tmp/x"], "is in a kernel"),
        (["cp", "/nowhere/x", "1:/tmp"], "cannot read /nowhere/x"),
        (["cp", "1:/nowhere/x", "."], "cannot read /nowhere/x in kernel 1"),
        (["cp", __file__, "1:"], "there is no path"),
        (["cp", __file__, "1:/nowhere/x"], "cannot write /nowhere/x in kernel 1: there is no folder /nowhere"),
        (["cp", __file__, "1:/dev/null"], "/dev/null is no regular file"),
        (["cp", "1:/dev/zero", "zero"], "it is no regular file"),
        (["cp", "1:/init", "nosuchdir/"], "there is no folder nosuchdir"),
        (["cp", str(Path(__file__).parent), "1:/tmp"], "it is a folder"),
    ],
)
def test_what_cannot_be_is_told_and_the_machine_is_as_before(words: list[str], cause: str) -> None:
    done = popcorn(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert cause in done.stderr


@pytest.mark.machine("small", policy="per-core", scratch=True)
def test_a_kernel_that_died_is_told_of_and_logs_in_again_when_it_was_started_again(
    machine: Machine, kernels: list[int], as_user: None, source: Path
) -> None:
    victim = kernels[3]
    ask = ["ssh", str(victim), "--", "hostname"]
    assert machine.exec(victim, ["hostname"], via="net").stdout_text == f"kernel-{victim}\n"
    machine.exec(
        0, ["popcorn-vty", "exec", "--timeout", "5", str(victim), "--", "sh", "-c", "echo c >/proc/sysrq-trigger"]
    )
    _await(machine, victim, lambda state, _: state == "dead")
    for words in (ask, ["cp", str(source), f"{victim}:/tmp"], ["exec", str(victim), "--", "true"]):
        done = popcorn(*words)
        assert done.returncode == 3
        assert f"kernel {victim} has ended: it is dead" in done.stderr
    assert machine.exec(0, ["popcorn-launch", str(victim)]).status == 0
    _await(machine, victim, lambda _, stage: stage == "user")
    assert popcorn(*ask).stdout == f"kernel-{victim}\n"
    # This connection knew its predecessor.
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert popcorn("cp", str(source), f"{victim}:/tmp").returncode == 0
    summed = machine.exec(victim, ["sha256sum", "/tmp/source"], via="net")
    assert summed.stdout_text == f"{digest}  /tmp/source\n"


def _await(machine: Machine, id: int, reached: Callable[[str, str], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while True:
        status = {status.id: status for status in machine.ps()}[id]
        if reached(status.state, status.stage):
            return
        assert time.monotonic() < deadline, f"kernel {id} is {status.state} at stage {status.stage}"
        time.sleep(0.2)
