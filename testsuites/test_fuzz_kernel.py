# SPDX-License-Identifier: Apache-2.0
"""Malformed kernels and command lines: each is refused for a reason that is told, and nobody else comes to harm.

The seeds are fixed. The debug kernel gets larger budgets than the one that users have: KASAN and its like watch there.
"""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from debugging import needs_debug, reports
from faults import inflict

from popcorn import cpulist
from popcorn.image.programs import suite_program
from popcorn.machine import qemu
from popcorn.machine.booted import booted_kernels
from popcorn.machine.machine import Machine
from popcorn.machine.status import KernelStatus
from popcorn.testing import Kernel
from popcorn.testing.switches import slow

_VICTIM = 3
_LOADER = 1
_PROGRAM = "/tmp/kexecfuzz"
_SEED = 612
_DEADLINE_S = 120.0
_SLOW = slow()
_DEFAULT = pytest.mark.machine("small", policy="per-core", scratch=True)
_DEBUG = pytest.mark.machine("small", policy="per-core", flavour="debug", scratch=True)
_FLAVOURS = [
    pytest.param(3000 if _SLOW else 400, marks=_DEFAULT, id="default"),
    pytest.param(20_000 if _SLOW else 4000, marks=[_DEBUG, needs_debug], id="debug"),
]
_BOOTS = [
    pytest.param(10 if _SLOW else 1, marks=_DEFAULT, id="default"),
    pytest.param(10 if _SLOW else 3, marks=[_DEBUG, needs_debug], id="debug"),
]
# What the kernel's own list and number parsers take apart, and what breaks parsers.
_PIECES = (
    *("0", "1", "3", "7", "8", "63", "64", "511", "512", "513", "4294967295", "4294967296", "18446744073709551616"),
    *(
        "-",
        "--",
        ",",
        ",,",
        ":",
        "/",
        "@",
        "$",
        "+",
        "=",
        "0x",
        "0x1000",
        "0xffffffffffffffff",
        "1K",
        "2M",
        "32G",
        "9E",
    ),
    *("32G", "9E", "all", "b", "8086", "0x8086", "zz", "0-7:2/4", "0-", "-5", "5-3", "\\", "%n", "%s", "A" * 200),
)
_PARAMETERS = ("present_mask", "cpu_offset", "popcorn", "pci_dev_flags", "keep_initmem")


def _status(machine: Machine, id: int) -> KernelStatus:
    return next(kernel for kernel in machine.ps() if kernel.id == id)


def _await(machine: Machine, id: int, *states: str) -> KernelStatus:
    deadline = time.monotonic() + _DEADLINE_S
    while (status := _status(machine, id)).state not in states or (status.state, status.stage) == ("running", "init"):
        assert time.monotonic() < deadline, f"kernel {id} is {status.state} at {status.stage}, expected {states}"
        time.sleep(0.1)
    return status


def _park(machine: Machine) -> None:
    if _status(machine, _VICTIM).state == "running":
        inflict(Kernel(machine, _VICTIM, via="vty"), "busybox poweroff -f")
    _await(machine, _VICTIM, "parked", "dead", "none", "planned")


@pytest.fixture(autouse=True)
def _others_come_to_no_harm(request: pytest.FixtureRequest) -> Iterator[None]:
    if "machine" not in request.fixturenames:
        yield
        return
    machine: Machine = request.getfixturevalue("machine")
    others = [part.id for part in machine.plan.partitions if part.id != _VICTIM]
    said = reports(machine, others)
    generations = {id: _status(machine, id).generation for id in others}
    yield
    assert machine.alive()
    # What was refused leaves the place free.
    _park(machine)
    done = machine.exec(0, ["popcorn-launch", str(_VICTIM)], timeout_s=_DEADLINE_S)
    assert done.status == 0, done.stdout_text + done.stderr_text
    _await(machine, _VICTIM, "running")
    answers = machine.exec_all(["sh", "-c", "echo fine"], timeout_s=_DEADLINE_S, via="vty")
    assert {id: done.stdout for id, done in answers.items()} == dict.fromkeys([*others, _VICTIM], b"fine\n")
    assert {id: _status(machine, id).generation for id in others} == generations
    assert reports(machine, others) == said


@pytest.mark.parametrize("attempts", _FLAVOURS)
@pytest.mark.parametrize("loader", [0, _LOADER], ids=["by the primary", "by another"])
def test_a_malformed_kernel_is_refused_for_a_reason(
    loader: int, attempts: int, machine: Machine, kernel: Callable[[int], Kernel]
) -> None:
    _park(machine)
    include = Path(booted_kernels(machine.run_dir)[0].dir) / "include"
    machine.ssh(loader).put(suite_program("kexecfuzz", include).read_bytes(), _PROGRAM, 0o755)
    window = machine.plan.partition(_VICTIM).memory[0]
    words = [_SEED + loader, attempts, _VICTIM, hex(window.start), hex(window.size)]
    done = kernel(loader).run([_PROGRAM, *map(str, words)], timeout_s=_DEADLINE_S + attempts / 10)
    assert done.status == 0, done.stderr_text + done.stdout_text[-500:]
    answers = [line.split(" ", 2) for line in done.stdout_text.splitlines()]
    assert [int(number) for number, _, _ in answers] == list(range(attempts + 1))
    assert answers[0][1] == "0", f"what is well-formed was refused: {answers[0]}"
    refused = [(int(number), said) for _, number, said in answers if number != "0"]
    assert len(refused) > attempts // 2
    assert [one for one in refused if not one[1].startswith("popcorn: ")] == []
    # Many different checks did the work.
    kinds = Counter(re.sub(r"[0-9][0-9a-fx+]*", "N", said) for _, said in refused)
    assert len(kinds) >= 10, kinds


def _garbage(choose: random.Random, parameters: tuple[str, ...]) -> str:
    value = "".join(choose.choice(_PIECES) for _ in range(choose.randrange(5)))
    return choose.choice(parameters) + choose.choice(("=", "=", "=", "")) + value


@pytest.mark.parametrize("boots", _BOOTS)
def test_garbage_on_a_secondarys_command_line_is_told_and_ignored(boots: int, machine: Machine) -> None:
    part = machine.plan.partition(_VICTIM)
    address = ",".join(f"{window.start:#x}+{window.size:#x}" for window in part.memory)
    for seed in range(boots):
        _park(machine)
        choose = random.Random(_SEED + seed)
        words: list[str] = []
        while len(line := " ".join([*words, part.cmdline])) < 1800:
            words.append(_garbage(choose, _PARAMETERS))
        options = f"--initrd=/boot/secondary.cpio --address={address} --boot={cpulist.format(part.cpus)}"
        script = f"kexec --popcorn --load /boot/vmlinux --command-line={shlex.quote(line)} {options} --exec"
        done = machine.exec(0, ["sh", "-c", script], timeout_s=_DEADLINE_S)
        assert done.status == 0, done.stderr_text
        # The plan's own words come last, and count.
        _await(machine, _VICTIM, "running")
        said = "\n".join(entry.text for entry in machine.log(_VICTIM))
        said = said[said.rindex("Linux version") :]
        for name, expected in (("present_mask", "a list such as"), ("cpu_offset", "a CPU number")):
            assert f"popcorn: {name}=" in said, line
            assert f"expected {expected}" in said
        assert "popcorn: popcorn=" in said
        assert "popcorn= is for the primary alone; ignored" in said or "expected SIZE@START,NR" in said
        assert "is not VENDOR:DEVICE:b; ignored" in said
        answer = machine.exec(_VICTIM, ["sh", "-c", "cat /proc/popcorn/self"], timeout_s=_DEADLINE_S, via="vty")
        assert f"cpus: {cpulist.format(part.cpus)}" in re.sub(r"[ \t]+", " ", answer.stdout_text)


def test_garbage_on_the_primarys_command_line_makes_it_an_ordinary_kernel(tmp_path: Path) -> None:
    from popcorn.config import load_machine
    from popcorn.machine.assemble import kernel_files
    from popcorn.plan import make_plan

    kernel, _ = kernel_files(make_plan(load_machine("small"), "per-node"))
    for seed in range(20 if _SLOW else 2):
        choose = random.Random(_SEED + seed)
        words = ["console=ttyS0", "panic=-1"]
        while len(" ".join(words)) < 1700:
            words.append(_garbage(choose, _PARAMETERS))
        argv = [qemu.PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]
        argv += ["-cpu", "max", "-accel", "tcg", "-smp", "2", "-m", "512M", "-serial", "stdio"]
        argv += ["-kernel", str(kernel.bzimage), "-append", " ".join(words)]
        done = subprocess.run(argv, capture_output=True, timeout=_DEADLINE_S, check=False)
        said = done.stdout.decode(errors="replace")
        assert "Unable to mount root fs" in said or "No working init found" in said, said[-2000:]
        assert "expected SIZE@START,NR, page aligned" in said
        assert "expected a list such as 0-5,8; ignored" in said
        assert "is not VENDOR:DEVICE:b; ignored" in said
        assert not re.search(r"\b(BUG|WARNING|Oops|general protection fault)\b", said.partition("Unable to mount")[0])
