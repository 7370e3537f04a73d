# SPDX-License-Identifier: Apache-2.0
"""Starting processes together, what kernels count meanwhile, and what NAS benchmarks make of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from experiment_fakes import FakeBooted, Stage

from popcorn.errors import GuestError
from popcorn.experiment import counters, launch
from popcorn.experiment.launch import Launcher, read_answers
from popcorn.experiment.protocols import Kernel, Share
from popcorn.experiment.workloads.npb import Npb, judge
from popcorn.guest.finished import Finished
from popcorn.machine.instructions import MARK_PROGRAM

_LOOK = """\
@@ /proc/stat
cpu  1 2 3
intr {intr} 5 6
ctxt {ctxt}
@@ /proc/interrupts
           CPU0       CPU1
  0:         90          1   IO-APIC   2-edge      timer
LOC:        500        600   Local timer interrupts
RES:          {res}          4   Rescheduling interrupts
CAL:          2          0   Function call interrupts
PLT:          7          0   Platform interrupts
@@ /proc/net/dev
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets
    lo:     100       1    0    0    0     0          0         0      100       1    0
  pcn0:  999999       1    0    0    0     0          0         0     {sent}       1    0
@@ /proc/popcorn/messages
kernel reachable tx_msgs ipis_sent
1 1 {messages} 2
2 1 3 4
inbox: 5
"""
_COST = "12 (a shell) S 1 2 3 4 5 6 7 {} 9 2 11\n"
_BEFORE = {"intr": 100, "ctxt": 1000, "res": 1, "sent": 10, "messages": 20}
_AFTER = {"intr": 160, "ctxt": 1500, "res": 9, "sent": 2010, "messages": 25}


class Local(FakeBooted):
    """Kernels that are all this host, each with a folder of its own; the nth is reached n times 0.6 s late."""

    folder = Path()

    def run(self, commands: Mapping[int, Sequence[str]], timeout_s: float) -> dict[int, Finished]:
        def one(kernel: int, argv: Sequence[str]) -> Finished:
            time.sleep(0.6 * kernel if len(commands) > 1 else 0.0)
            folder = self.folder / str(kernel)
            words = [word.replace("/tmp/", f"{folder}/").replace(MARK_PROGRAM, f"{folder}/mark") for word in argv]
            done = subprocess.run(words, capture_output=True, timeout=timeout_s, check=False)
            return Finished(tuple(argv), done.returncode, done.stdout, done.stderr)

        with ThreadPoolExecutor() as pool:
            waiting = {kernel: pool.submit(one, kernel, argv) for kernel, argv in commands.items()}
            return {kernel: answer.result() for kernel, answer in waiting.items()}

    def put(self, kernel: int, content: bytes, path: str, mode: int = 0o644) -> None:
        (self.folder / str(kernel) / Path(path).name).write_bytes(content)


@pytest.fixture
def local(tmp_path: Path) -> Callable[[int], Local]:
    def some(count: int) -> Local:
        booted = Local([Kernel(id, 4, 1 << 30, "127.0.0.1") for id in range(count)], Stage())
        booted.folder = tmp_path
        for id in range(count):
            (tmp_path / str(id)).mkdir()
        return booted

    return some


def test_counters_are_read_from_what_the_kernel_tells() -> None:
    assert counters.look(_LOOK.format(**_BEFORE), "pcn0") == {
        "count.interrupts": 100,
        "count.context_switches": 1000,
        "count.ipis": 1 + 4 + 2 + 7,
        "count.messages": 23,
        "count.message_ipis": 6,
        "count.switch_bytes": 10,
    }


def test_what_a_kernel_does_not_have_is_not_counted() -> None:
    assert counters.look("@@ /proc/stat\nctxt 5\n@@ /proc/popcorn/messages\n", None) == {"count.context_switches": 5}


def test_differences_are_summed_over_kernels_and_only_of_what_all_count() -> None:
    pair = tuple(counters.look(_LOOK.format(**values), "pcn0") for values in (_BEFORE, _AFTER))
    found = {one.metric: one.value for one in counters.differences([(pair[0], pair[1])] * 2)}
    assert found["count.interrupts"] == 120
    assert found["count.switch_bytes"] == 4000
    fewer = {"count.interrupts": 1}
    both = counters.differences([(pair[0], pair[1]), (fewer, {"count.interrupts": 2})])
    assert [(one.metric, one.value) for one in both] == [("count.interrupts", 61.0)]
    assert counters.differences([]) == []


def test_a_process_is_started_for_each_core_and_all_that_they_said_is_told_apart(local: Callable[[int], Local]) -> None:
    booted = local(1)
    argv = ["sh", "-c", "echo out; printf err >&2; exit 3"]
    ended = Launcher.of(booted).run([Share(booted.kernels[0], 3)], argv, per_core=True, timeout_s=30)
    assert [(one.copy, one.done.status, one.done.stdout, one.done.stderr) for one in ended.processes] == [
        (copy, 3, b"out\n", b"err") for copy in range(3)
    ]
    counted = {one.metric: one.value or 0 for one in ended.counted}
    assert counted["count.context_switches"] > 0
    # A process that is started faults for each of its pages.
    assert counted["count.page_faults"] > 3 * 20


def test_processes_of_several_kernels_wait_for_an_agreed_time(local: Callable[[int], Local]) -> None:
    booted = local(2)
    shares = [Share(kernel, 1) for kernel in booted.kernels]
    # The second is too late at first, and then given time enough.
    ended = Launcher.of(booted).run(shares, ["cat", "/proc/uptime"], per_core=True, timeout_s=30)
    first, second = (float(one.done.stdout.split()[0]) for one in ended.processes)
    assert ended.late_s <= 0.05
    assert abs(first - second) < 0.3


def _marking(folder: Path) -> Path:
    """Give a kernel of `Local` what marks a moment; where it writes that down."""
    log = folder / "marks"
    (folder / "mark").write_text(f"#!/bin/sh\necho mark >>{log}\n", encoding="utf-8")
    (folder / "mark").chmod(0o755)
    return log


def test_a_kernel_that_counts_marks_where_the_workload_begins_and_ends(
    local: Callable[[int], Local], tmp_path: Path
) -> None:
    booted = local(1)
    log = _marking(tmp_path / "0")
    shares = [Share(kernel, 2) for kernel in booted.kernels]
    ended = Launcher.of(booted).run(shares, ["sh", "-c", "echo work >>/tmp/marks"], per_core=True, timeout_s=20)
    assert log.read_text(encoding="utf-8").split() == ["mark", "work", "work", "mark"]
    assert all(process.done.status == 0 and not process.done.stderr for process in ended.processes)


def test_kernels_whose_processes_another_one_starts_mark_as_well(local: Callable[[int], Local], tmp_path: Path) -> None:
    booted = local(2)
    log = _marking(tmp_path / "1")
    shares = [Share(kernel, 1) for kernel in booted.kernels]
    Launcher.of(booted).run_first(shares, ["sh", "-c", "echo work >>/tmp/../1/marks"], timeout_s=20)
    assert log.read_text(encoding="utf-8").split() == ["mark", "work", "mark"]


def test_kernels_that_cannot_be_started_together_are_told(
    local: Callable[[int], Local], monkeypatch: pytest.MonkeyPatch
) -> None:
    booted = local(2)
    monkeypatch.setattr(launch, "_TRIES", 1)
    launcher = Launcher(booted)
    launcher._lead_s = -0.5
    with pytest.raises(GuestError, match="2 kernels could not be started together"):
        launcher.run([Share(kernel, 1) for kernel in booted.kernels], ["true"], per_core=True, timeout_s=30)


def _answer(stdout: str, status: int = 0) -> Finished:
    text = (
        f"@@@ late 0\n@@@ ran 60\n@@@ status 0 {status}\n@@@ stdout 0\n{stdout}\n@@@ stderr 0\n\n"
        f"@@@ cost\n{_COST.format(100)}{_COST.format(350)}"
        f"@@@ before\n{_LOOK.format(**_BEFORE)}@@@ after\n{_LOOK.format(**_AFTER)}@@@ end\n"
    )
    return Finished(("sh",), 0, text.encode(), b"")


def _npb(verified: bool = True, time_s: float = 0.5, threads: int = 1) -> str:
    said = "true" if verified else "false"
    return (
        f'{{"benchmark": "is", "class": "S", "threads": {threads}, "time_s": {time_s}, "mop_s": 9.0, '
        f'"verified": {said}}}\n'
    )


def _judged(*answers: Finished) -> tuple[str, str]:
    outcome = judge(read_answers(dict(enumerate(answers)), ["npb"], "pcn0"), "is", "S", 1)
    assert outcome.raw
    return outcome.status, outcome.reason


def test_the_time_of_copies_is_that_of_the_last_one() -> None:
    ended = read_answers({0: _answer(_npb(time_s=0.5)), 5: _answer(_npb(time_s=0.75))}, ["npb"], "pcn0")
    found = {one.metric: one.value for one in judge(ended, "is", "S", 1).measurements}
    assert (found["time"], found["time.first"], found["rate"]) == (0.75, 0.5, 18.0)
    assert (found["count.messages"], found["count.page_faults"], found["wall"]) == (10, 500, 0.6)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (_answer(_npb(verified=False), 1), "void", "verification failed"),
        (_answer(_npb(threads=4)), "void", "4 threads instead of 1"),
        (_answer("npb: no memory", 3), "failed", "exit status 3"),
        (_answer("", 137), "killed", "exit status 137"),
        (Finished(("sh",), 124, b"", b"took too long"), "hung", "took too long"),
    ],
)
def test_a_copy_that_comes_to_grief_takes_the_whole_trial_with_it(answer: Finished, status: str, told: str) -> None:
    found, reason = _judged(_answer(_npb()), answer)
    assert found == status
    assert reason.startswith("kernel 1: ")
    assert told in reason


def test_a_kernel_that_cannot_be_reached_is_an_error() -> None:
    with pytest.raises(GuestError, match="kernel 0 cannot be reached: gone"):
        read_answers({0: Finished((), 125, b"", b"gone")}, ["npb"], None)


def test_copies_take_memory_each_and_threads_share_it() -> None:
    copies, threads = (Npb("ft", "W", threads=threads) for threads in (False, True))
    assert copies.memory_bytes(4, 4) - copies.memory_bytes(1, 1) == 3 * 17 << 20
    assert threads.memory_bytes(4, 4) == threads.memory_bytes(1, 1)
