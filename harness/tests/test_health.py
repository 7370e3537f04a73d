# SPDX-License-Identifier: Apache-2.0
"""Whether a kernel gets on is judged by the CPU time that it got."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from popcorn.machine.layout import Slot, unknown_slot
from popcorn.machine.progress import CpuTimes, Health, Progress, Still, judge


@pytest.mark.parametrize(
    ("still", "health"),
    [
        (Still(1.0, cpu_s=1.0), "ok"),
        (Still(6.0, cpu_s=5.9, others_went_on=True), "hung"),
        (Still(60.0, cpu_s=5.1, waited_s=54.0, others_went_on=True), "hung"),
        (Still(60.0, cpu_s=1.0, waited_s=58.0, others_went_on=True), "slow"),
        (Still(6.0, cpu_s=0.01, waited_s=0.02, others_went_on=True), "silent"),
        (Still(6.0, cpu_s=0.01, waited_s=0.02, others_went_on=False), "ok"),
        (Still(16.0, cpu_s=0.01, waited_s=0.02), "silent"),
        (Still(6.0, cpu_s=5.9, booting=True), "ok"),
        (Still(31.0, cpu_s=30.5, booting=True), "hung"),
        (Still(20.0, others_went_on=True, booting=True), "ok"),
        (Still(31.0, others_went_on=True, booting=True), "silent"),
    ],
)
def test_what_its_cpus_did_meanwhile_tells_what_holds_a_kernel_up(still: Still, health: Health) -> None:
    assert judge(still) == health


class Times(CpuTimes):
    """CPU time as a test sets it."""

    def __init__(self) -> None:
        self.of: dict[int, tuple[float, float]] = {}

    def read(self, cpus: Iterable[int]) -> dict[int, tuple[float, float]]:
        return {cpu: self.of.get(cpu, (0.0, 0.0)) for cpu in cpus}


def running(id: int, heartbeat: int, cpus: tuple[int, ...] = ()) -> Slot:
    return replace(unknown_slot(id), state="running", generation=1, heartbeat=heartbeat, cpus=cpus or (id,))


def test_each_change_of_health_is_told_once() -> None:
    times = Times()
    progress = Progress(times)
    told = []
    for second in range(20):
        # Kernel 1 stops beating at 4 s, hangs till 14 s and goes on.
        beat = second if second < 4 or second >= 14 else 3
        times.of[1] = (float(second), 0.0)
        told += [
            (second, id, health)
            for id, health, _ in progress.look([running(0, second), running(1, beat)], float(second))
        ]
    assert told == [(8, 1, "hung"), (14, 1, "ok")]


def test_the_busiest_cpu_of_a_cluster_counts() -> None:
    times = Times()
    progress = Progress(times)
    cluster = running(4, 7, cpus=(4, 5))
    progress.look([cluster], 0.0)
    times.of[5] = (6.0, 0.0)
    assert [(id, health) for id, health, _ in progress.look([cluster], 6.0)] == [(4, "hung")]
    assert progress.health()["4"]["cpu_s"] == 6.0


def test_a_new_life_begins_in_health_and_a_dead_kernel_has_none() -> None:
    times = Times()
    progress = Progress(times)
    progress.look([running(1, 3)], 0.0)
    times.of[1] = (9.0, 0.0)
    assert progress.look([running(1, 3)], 9.0)[0][1] == "hung"
    # However short ago the last look was.
    assert progress.look([replace(running(1, 3), generation=2)], 9.1)[0][1] == "ok"
    assert progress.look([replace(running(1, 3), state="dead")], 11.0) == []
    assert progress.health() == {}


def test_messages_and_stages_are_signs_of_life_until_the_heart_beats() -> None:
    times = Times()
    progress = Progress(times)
    for second in range(100):
        times.of[1] = (float(second), 0.0)
        boots = replace(running(1, 0), state="early", log_head=second // 20)
        assert progress.look([boots], float(second)) == []
    times.of[1] = (200.0, 0.0)
    assert [health for _, health, _ in progress.look([boots], 200.0)] == ["hung"]


def test_the_hosts_account_of_a_busy_thread_and_of_a_sleeping_one() -> None:
    """As QEMU names its threads."""
    stop = threading.Event()

    def busy() -> None:
        name(b"CPU 0/TCG")
        while not stop.is_set():
            pass

    def idle() -> None:
        name(b"CPU 7/KVM")
        stop.wait()

    def name(text: bytes) -> None:
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "wb") as comm:
            comm.write(text)

    threads = [threading.Thread(target=busy), threading.Thread(target=idle)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 20
        while len(before := (times := CpuTimes(os.getpid())).read([0, 7, 500])) < 2:
            assert time.monotonic() < deadline, "the threads got no names"
        while (after := times.read([0, 7]))[0][0] - before[0][0] < 0.01:
            assert time.monotonic() < deadline, "the busy thread got no time"
            time.sleep(0.01)
        assert after[7][0] - before[7][0] < after[0][0] - before[0][0]
        assert 500 not in before
    finally:
        stop.set()
        for thread in threads:
            thread.join()
