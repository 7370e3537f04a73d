# SPDX-License-Identifier: Apache-2.0
"""Kernels exchange messages: none is lost, torn, out of order or announced more often than needed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from held import held
from messages import OWN_ID, Row, answers, assert_both_sides_agree, counters, inbox, refusal, rows, send_when_bound
from proc import interrupts

from popcorn.machine.machine import Machine
from popcorn.testing import EVERY_SERIES, Everywhere, Kernel, KernelById

pytestmark = pytest.mark.machine("small", policy="per-core", series=EVERY_SERIES)

_LONGEST = 65504
_QUEUE = 256
_PER_IPI = 8
_STREAM = 20_000
_TRIES = 10
_NORMAL = 5
_COUNT_S = 30.0


def test_every_pair_of_kernels_exchanges_messages_and_both_sides_count_the_same(
    kernels: list[int], everywhere: Everywhere
) -> None:
    before = counters(everywhere)
    told = everywhere("popcorn-msg stream all -n 200 -l 100")
    after = counters(everywhere)
    for id, text in told.items():
        assert sorted(line["to"] for line in answers(text)) == [other for other in kernels if other != id]
        for line in answers(text):
            assert line["delivered"] == 200
            sent = after[id][line["to"]]["tx_bytes"] - before[id][line["to"]]["tx_bytes"]
            assert sent >= 200 * 100, f"kernel {id} counted {sent} bytes to kernel {line['to']}"
    assert_both_sides_agree(after)


@pytest.mark.parametrize("size", [1, 32, 33, 4096, _LONGEST])
def test_a_message_arrives_unharmed(size: int, kernels: list[int], everywhere: Everywhere) -> None:
    sender, receiver = kernels[1], kernels[2]
    sums = everywhere(
        f"{OWN_ID}; case $id in "
        f"{sender}) head -c {size} /dev/urandom >/tmp/sent; "
        f"{send_when_bound('cat /tmp/sent', f'{receiver} 41')} >/dev/null; sha256sum </tmp/sent;; "
        f"{receiver}) popcorn-msg receive 41 -n 1 -t 60 -r | sha256sum;; esac"
    )
    assert sums[sender] == sums[receiver] != ""


def test_long_messages_of_all_kernels_at_once_arrive_unharmed(kernels: list[int], everywhere: Everywhere) -> None:
    receiver, count = kernels[3], 8
    senders = [id for id in kernels if id != receiver]
    block = f"dd if=/tmp/sent bs={_LONGEST} count=1 skip=$i 2>/dev/null"
    sums = everywhere(
        f"{OWN_ID}; if [ $id = {receiver} ]; then "
        f"for port in {' '.join(str(100 + id) for id in senders)}; do "
        f"popcorn-msg receive $port -n {count} -t 60 -r | sha256sum >/tmp/sum.$port & done; wait; cat /tmp/sum.*; "
        f"else head -c {count * _LONGEST} /dev/urandom >/tmp/sent; i=0; while [ $i -lt {count} ]; do "
        f"{send_when_bound(block, f'{receiver} $((100 + id))')} >/dev/null; i=$((i + 1)); done; "
        "sha256sum </tmp/sent; rm /tmp/sent; fi"
    )
    assert sums[receiver] == "".join(sums[id] for id in senders)
    assert_both_sides_agree(counters(everywhere))


def test_messages_of_each_sender_arrive_in_order(kernels: list[int], everywhere: Everywhere) -> None:
    receiver, count = kernels[4], 200
    senders = [id for id in kernels if id != receiver]
    told = everywhere(
        f"{OWN_ID}; if [ $id = {receiver} ]; then popcorn-msg receive 42 -n {count * len(senders)} -t 60; "
        f"else {send_when_bound(f'seq 1 {count}', f'{receiver} 42 -e')}; fi"
    )
    heard: dict[int, list[int]] = {id: [] for id in senders}
    for line in answers(told[receiver]):
        heard[line["kernel"]].append(int(line["data"]))
    assert heard == {id: list(range(1, count + 1)) for id in senders}


def test_a_full_queue_refuses_or_blocks_as_asked_and_loses_nothing(kernels: list[int], kernel: KernelById) -> None:
    sender, receiver = kernel(kernels[1]), kernel(kernels[2])
    total = _QUEUE + 50
    receiver.shell(f"popcorn-msg receive 43 -n {total} -t 60 >/tmp/heard 2>&1 & echo $! >/tmp/receiver")
    # The first one shows that it is bound; it is read at once, or stays in the queue of a stopped process.
    sender.shell(send_when_bound("echo 1", f"{receiver.id} 43 -e"))
    receiver.shell("kill -STOP $(cat /tmp/receiver)")
    said = refusal(sender, f"seq 2 {total} | popcorn-msg send {receiver.id} 43 -e -N")
    accepted = int(said.partition("after ")[2].split()[0])
    assert "no room at the receiver" in said
    assert accepted in (_QUEUE - 1, _QUEUE)
    waiting = f"seq {accepted + 2} {total} | popcorn-msg send {receiver.id} 43 -e >/tmp/sent 2>&1 &"
    sender.shell(f"{waiting} sleep 1; [ ! -s /tmp/sent ]")
    receiver.shell("kill -CONT $(cat /tmp/receiver)")
    receiver.shell("while kill -0 $(cat /tmp/receiver) 2>/dev/null; do sleep 0.1; done")
    heard = answers(receiver.shell("cat /tmp/heard"))
    assert [line["data"] for line in heard] == [str(number) for number in range(1, total + 1)]


def test_a_message_of_high_priority_overtakes_a_full_ring(
    machine: Machine, kernels: list[int], kernel: KernelById
) -> None:
    sender, receiver = kernel(kernels[1]), kernel(kernels[2])

    def sent() -> Row:
        return rows(sender.shell("cat /proc/popcorn/messages"))[receiver.id]

    def await_count(counter: str, least: int) -> None:
        deadline = time.monotonic() + _COUNT_S
        while (count := sent()[counter]) < least:
            assert time.monotonic() < deadline, f"{counter} is {count} and not {least} after {_COUNT_S:g} s"

    send = f"echo {{}} | popcorn-msg send {receiver.id} 46 -e {{}}"
    receiver.shell(f"popcorn-msg receive 46 -n {_NORMAL + 2} -t 60 >/tmp/heard 2>&1 & echo $! >/tmp/receiver")
    sender.shell(send_when_bound("echo bound", f"{receiver.id} 46 -e"))
    with held(machine, receiver.id):
        before = sent()
        for _ in range(_NORMAL):
            sender.shell(f"{send.format('normal', '')} >/dev/null 2>&1 &")
        await_count("tx_msgs", before["tx_msgs"] + _NORMAL)
        # It fills the rest of the ring and waits for room.
        sender.shell(f"popcorn-msg stream {receiver.id} -n {_STREAM} >/dev/null 2>&1 &")
        await_count("tx_full", before["tx_full"] + 1)
        filled = sent()
        sender.shell(f"{send.format('high', '-H')} >/dev/null 2>&1 &")
        await_count("tx_msgs", filled["tx_msgs"] + 1)
    receiver.shell("while kill -0 $(cat /tmp/receiver) 2>/dev/null; do sleep 0.1; done")
    heard = [(line["data"], line["high"]) for line in answers(receiver.shell("cat /tmp/heard"))]
    assert heard == [("bound", False), ("high", True), *[("normal", False)] * _NORMAL]


def _bystanders(machine: Machine, taking_part: tuple[int, ...]) -> dict[int, dict[str, list[int]]]:
    # By the terminal lines, which are polled: to ask over the network would interrupt.
    answers = machine.exec_all(["cat", "/proc/interrupts"], timeout_s=60, via="vty")
    counts = {id: interrupts(done.stdout_text) for id, done in answers.items()}
    for of_kernel in counts.values():
        del of_kernel["LOC"]
    # The primary's devices serve whoever asks.
    return {id: of_kernel for id, of_kernel in counts.items() if id and id not in taking_part}


def test_kernels_that_take_no_part_are_not_interrupted(
    machine: Machine, kernels: list[int], kernel: KernelById
) -> None:
    sender, receiver = kernels[1], kernels[2]
    for _ in range(_TRIES):
        before = _bystanders(machine, (sender, receiver))
        kernel(sender).shell(f"popcorn-msg stream {receiver} -n 5000; popcorn-msg ping {receiver} -n 500")
        after = _bystanders(machine, (sender, receiver))
        assert len(before) == len(kernels) - 3
        if after == before:
            return
    # What others do once in a while, such as the network's own talk, does not hit each of many tries.
    pytest.fail(f"interrupts moved in kernels that took no part: {before} {after}")


def test_under_load_there_are_at_least_eight_messages_to_an_ipi(kernels: list[int], kernel: KernelById) -> None:
    sender, receiver = kernels[1], kernels[2]
    before = rows(kernel(sender).shell("cat /proc/popcorn/messages"))[receiver]
    kernel(sender).shell(f"popcorn-msg stream {receiver} -n {_STREAM}")
    after = rows(kernel(sender).shell("cat /proc/popcorn/messages"))[receiver]
    sent, saved = (after[name] - before[name] for name in ("ipis_sent", "ipis_saved"))
    assert sent + saved >= after["tx_msgs"] - before["tx_msgs"] >= _STREAM
    assert sent * _PER_IPI <= _STREAM, f"{sent} IPIs for {_STREAM} messages"


def test_a_kernel_that_gets_no_messages_does_not_look_for_them(kernels: list[int], kernel: KernelById) -> None:
    look = "cat /proc/popcorn/inbox; grep '^{} ' /proc/popcorn/kernels"
    sender, receiver = kernel(kernels[1]), kernel(kernels[2])
    sender.shell(f"popcorn-msg stream {receiver.id} -n 1000")
    script = look.format(receiver.id)
    before, after = _looks(receiver.shell(f"{script}; sleep 3; echo ==; {script}"))
    # It looks once a second in case that a writer died before it rang.
    woken = after["ipis"] - before["ipis"] + after["beats"] - before["beats"]
    assert after["beats"] > before["beats"]
    assert after["polls"] - before["polls"] <= woken + 1


def _looks(text: str) -> list[dict[str, int]]:
    found = []
    for part in text.split("==\n"):
        *lines, kernel = part.splitlines()
        found.append({**inbox("\n".join(lines)), "beats": int(kernel.split()[4])})
    return found


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("popcorn-msg ping 99 -n 1", "no such kernel"),
        ("popcorn-msg stream 99 -n 1", "no such kernel"),
        ("echo | popcorn-msg send 99 1", "no such kernel"),
        ("echo | popcorn-msg send 2 4711", "no process of that kernel is bound"),
        (f"head -c {_LONGEST + 1} /dev/zero | popcorn-msg send 2 1", "too long"),
        ("popcorn-msg ping 2 -n 1 -l 65537", "too long"),
        ("popcorn-msg stream 2 -n 1 -l 65537", "too long"),
        ("popcorn-msg ping 2 -n 1 -T 63", "nobody handles messages of this type"),
        ("popcorn-msg group join 5", "group is not open"),
        ("popcorn-msg receive 44 -n 1 -t 1", "no message in time"),
        (
            "popcorn-msg receive 45 -t 60 >/dev/null 2>&1 & sleep 1; popcorn-msg receive 45 -t 1; "
            "status=$?; kill $!; exit $status",
            "another process is bound",
        ),
    ],
)
def test_each_mistake_has_an_error_of_its_own(
    script: str, reason: str, kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    assert reason in refusal(kernel(kernels[1]), script)
