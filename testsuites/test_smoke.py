# SPDX-License-Identifier: Apache-2.0
"""Every kernel has what the plan gives it, works by itself, and leaves the others alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from proc import fields, interrupts

from popcorn import cpulist
from popcorn.machine.machine import Machine
from popcorn.testing import EVERY_SERIES, Kernel

pytestmark = pytest.mark.machine("small", policy="per-core", series=EVERY_SERIES)

Everywhere = Callable[[str], dict[int, str]]
_CLOCKS_AGREE_S = 10
# As 6.12 prints it, and as 3.2 does.
_USABLE = re.compile(
    r"e820: (?:\[mem )?(?P<start>[0-9a-fx]+)(?:-(?P<last>[0-9a-fx]+)\] usable| - (?P<end>[0-9a-fx]+) \(usable\))"
)


def test_every_kernel_has_the_cpus_of_its_partition(machine: Machine, everywhere: Everywhere) -> None:
    for id, text in everywhere("cat /proc/popcorn/self; echo nproc: $(nproc)").items():
        told = fields(text)
        assert told["id"] == [str(id)]
        assert cpulist.parse(told["cpus"][0]) == machine.plan.partition(id).cpus
        assert told["nproc"] == [str(len(machine.plan.partition(id).cpus))]


def test_every_kernel_has_the_memory_of_its_partition_and_no_more(machine: Machine, everywhere: Everywhere) -> None:
    for id, text in everywhere("cat /proc/meminfo").items():
        window = machine.plan.partition(id).memory_bytes
        total = int(fields(text)["MemTotal"][0].split()[0]) << 10
        assert 0.8 * window < total <= window + (1 << 20), f"kernel {id} manages {total >> 20} MiB of {window >> 20}"


def test_the_memory_map_of_a_secondary_lies_in_its_windows(machine: Machine) -> None:
    for partition in machine.plan.secondaries:
        lines = [entry.text for entry in machine.log(partition.id)]
        ranges = [
            (int(found["start"], 16), int(found["last"] or found["end"], 16) + bool(found["last"]))
            for line in lines
            if (found := _USABLE.search(line))
        ]
        assert ranges, f"kernel {partition.id} printed no memory map"
        for start, end in ranges:
            assert any(window.start <= start and end <= window.end for window in partition.memory)


def test_all_kernels_are_of_the_release_that_was_built(machine: Machine, everywhere: Everywhere) -> None:
    releases = set(everywhere("cat /proc/sys/kernel/osrelease").values())
    assert len(releases) == 1
    assert {status.release for status in machine.ps()} == {releases.pop().strip()}


def test_every_kernel_has_a_timer_that_ticks_on_all_its_cpus(kernels: list[int], everywhere: Everywhere) -> None:
    script = "cat /proc/interrupts; sleep 1; echo ==; cat /proc/interrupts"
    for id, text in everywhere(script).items():
        before, after = (interrupts(part)["LOC"] for part in text.split("==\n"))
        assert all(now > then for then, now in zip(before, after, strict=True)), f"kernel {id}: {before} {after}"


def test_the_clocks_of_all_kernels_agree_and_advance(everywhere: Everywhere) -> None:
    took = time.monotonic()
    first = {id: int(text) for id, text in everywhere("date +%s").items()}
    took = time.monotonic() - took
    assert max(first.values()) - min(first.values()) <= _CLOCKS_AGREE_S + took
    later = {id: int(text) for id, text in everywhere("sleep 1; date +%s").items()}
    assert all(later[id] > first[id] for id in first)


def test_no_kernel_got_spurious_or_erroneous_interrupts(everywhere: Everywhere) -> None:
    for id, text in everywhere("cat /proc/interrupts").items():
        counts = interrupts(text)
        assert counts.get("ERR", [0]) == [0], f"kernel {id}"
        assert not any(counts.get("SPU", [])), f"kernel {id}"


def test_hearts_beat_and_ps_agrees_with_the_plan(machine: Machine, kernels: list[int]) -> None:
    def ps() -> dict[int, dict[str, object]]:
        argv = [sys.executable, "-P", "-m", "popcorn", "ps", "--name", machine.name, "--json"]
        done = subprocess.run(argv, capture_output=True, check=True, env=os.environ)
        return {row["id"]: row for row in json.loads(done.stdout)}

    first = ps()
    deadline = time.monotonic() + 30
    later = ps()
    while time.monotonic() < deadline and any(later[id]["heartbeat"] == first[id]["heartbeat"] for id in kernels):
        time.sleep(0.5)
        later = ps()
    assert sorted(first) == kernels
    for id in kernels:
        assert later[id]["heartbeat"] > first[id]["heartbeat"]  # type: ignore[operator]
        assert later[id]["state"] == "running"
        assert tuple(later[id]["cpus"]) == machine.plan.partition(id).cpus  # type: ignore[arg-type]


def test_streams_and_exit_status_come_through_the_terminal_line(
    kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    for id in (kernels[0], kernels[1], kernels[-1]):
        done = kernel(id).run(["sh", "-c", "printf 'out\\000\\377'; echo err >&2; exit 7"])
        assert (done.status, done.stdout, done.stderr) == (7, b"out\0\xff", b"err\n")


def test_two_secondaries_talk_over_their_own_line(kernels: list[int], kernel: Callable[[int], Kernel]) -> None:
    one, other = kernels[1], kernels[2]
    reader = f"stty raw -echo </dev/vty{one}; timeout 60 head -n 1 </dev/vty{one} >/tmp/heard"
    # The file is there when the line is open.
    kernel(other).shell(f"rm -f /tmp/heard; ({reader}) >/dev/null 2>&1 & until [ -e /tmp/heard ]; do sleep 0.1; done")
    kernel(one).shell(f"stty raw -echo </dev/vty{other}; echo popcorn-{one} >/dev/vty{other}; sleep 1")
    heard = kernel(other).shell("for i in $(seq 100); do [ -s /tmp/heard ] && break; sleep 0.1; done; cat /tmp/heard")
    assert heard.strip() == f"popcorn-{one}"


def test_the_console_of_every_kernel_was_recorded_from_its_first_line(machine: Machine, kernels: list[int]) -> None:
    for id in kernels:
        text = "\n".join(entry.text for entry in machine.log(id))
        assert "Linux version" in text, f"kernel {id}"
        assert "Kernel panic" not in text, f"kernel {id}"
