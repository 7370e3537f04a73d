# SPDX-License-Identifier: Apache-2.0
"""A kernel believes nothing that it reads from what it shares: others that write nonsense there do it no harm.

On the kernel that users have the host writes it; on the debug kernel another one does, watched by KASAN and its like.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from command import popcorn
from debugging import needs_debug, reports
from messages import OWN_ID, answers, inbox
from scribble import Scribbler, targets

from popcorn.machine.machine import Machine
from popcorn.testing import Kernel, KernelById

_VICTIM, _CULPRIT = 3, 2
# A number and no time, so that a slow host overwrites as much.
_TIMES = 60
_WORDS = 300
_RECOVERY_S = 60.0
_OVERWRITTEN_S = 3.0
_DEFAULT = pytest.mark.machine("small", policy="per-core", scratch=True)
_DEBUG = pytest.mark.machine("small", policy="per-core", flavour="debug", scratch=True)
# All others with the victim, and it with one of them.
_PEER = f"{OWN_ID}; peer={_VICTIM}; [ $id != {_VICTIM} ] || peer={_CULPRIT}"
_ADDRESS = "10.80.0.$((peer + 1))"
_TRAFFIC = (
    f"{_PEER}; while :; do popcorn-msg stream $peer -n 50 -l $((RANDOM % 5000)); popcorn-msg ping $peer -n 5 -t 1; "
    f"busybox ping -q -c 1 -W 1 -s $((RANDOM % 1400)) {_ADDRESS}; done"
)
# Whom the others do not know for a moment gets no answer to what it asks meanwhile: it asks again.
_CHECK = (
    f"{_PEER}; busybox timeout 5 popcorn-msg stream $peer -n 20 -l 3000 || exit; "
    f"busybox ping -q -c 2 -i 0.2 -W 2 {_ADDRESS} >/tmp/pinged || {{ echo frames to kernel $peer >&2; exit 1; }}"
)


@pytest.fixture(autouse=True)
def _no_report(machine: Machine, kernels: list[int]) -> Iterator[None]:
    # An earlier test may have made a kernel of the same machine panic.
    before = reports(machine, kernels)
    yield
    assert reports(machine, kernels) == before


@pytest.fixture
def kernel(machine: Machine) -> KernelById:
    """A kernel by its id, reached by the terminal line: the network is what is attacked."""
    return partial(Kernel, machine, via="vty")


@pytest.mark.parametrize("what", ["inbox", "netbox", "registry"])
@_DEFAULT
def test_what_the_host_overwrites_harms_nobody(
    what: str, machine: Machine, kernels: list[int], kernel: KernelById
) -> None:
    with _traffic(machine), Scribbler(machine, seed=1) as scribbler:
        target = targets(machine, _VICTIM)[what]
        for _ in range(_TIMES):
            scribbler.scribble(target, _WORDS)
            time.sleep(0.05)
    _assert_unharmed(what, machine, kernels, kernel)


@pytest.mark.parametrize("what", ["inbox", "netbox", "registry"])
@needs_debug
@_DEBUG
def test_what_another_kernel_overwrites_harms_nobody(
    what: str, machine: Machine, kernels: list[int], kernel: KernelById
) -> None:
    with _traffic(machine):
        each = f"popcorn-msg corrupt {_VICTIM} {what} -n {_WORDS} -s $seed >/dev/null || refused=$((refused + 1))"
        seeds = f"for seed in $(busybox seq 1 {_TIMES}); do {each}; usleep 50000; done"
        # With its entry in the registry overwritten the victim is unknown for a moment.
        refused = int(kernel(_CULPRIT).shell(f"refused=0; {seeds}; echo $refused"))
    assert refused < _TIMES, "nothing was overwritten"
    _assert_unharmed(what, machine, kernels, kernel)
    # What still lies in its rings would be found by a later test, when their turn comes.
    restarted = popcorn("restart", "--name", machine.name, str(_VICTIM))
    assert restarted.returncode == 0, restarted.stderr


@_DEFAULT
def test_who_stopped_while_it_told_its_memory_is_taken_to_have_all_until_it_is_ended(
    machine: Machine, kernel: KernelById
) -> None:
    region = machine.region()
    header, ffi = region.header(), region.layout.ffi
    slot = machine.record.region_start + header.slot_offset + _VICTIM * header.slot_stride
    told = region.slot(_VICTIM).range_seq
    with Scribbler(machine, seed=1) as scribbler:
        scribbler.write(slot + ffi.offsetof("struct popcorn_slot", "range_seq"), (told | 1).to_bytes(8, "little"))
    refused = popcorn("restart", "--name", machine.name, str(_CULPRIT))
    assert (refused.returncode, region.slot(_CULPRIT).state) == (3, "parked"), refused.stderr
    assert f"kernel {_VICTIM} does not tell what memory it has" in refused.stderr
    assert kernel(_VICTIM).shell("echo $((6 * 7))") == "42\n"
    assert popcorn("kill", "--name", machine.name, str(_VICTIM)).returncode == 0
    for id in (_CULPRIT, _VICTIM):
        started = popcorn("start", "--name", machine.name, str(id))
        assert started.returncode == 0, started.stderr
    assert region.slot(_VICTIM).range_seq % 2 == 0


@_DEFAULT
def test_a_netbox_that_was_overwritten_when_others_looked_for_it_is_found_when_it_is_mended(
    machine: Machine, kernel: KernelById
) -> None:
    entry, ffi = targets(machine, _VICTIM)["registry"].start, machine.region().layout.ffi
    netbox, status = (entry + ffi.offsetof("struct popcorn_peer", name) for name in ("netbox", "status"))
    joined = machine.memory.read(status, 4)
    with Scribbler(machine, seed=1) as scribbler:
        # Others forget it, and find it again with frames going nowhere: it tells itself anew only once in a second.
        for content in (bytes(4), joined):
            until = time.monotonic() + _OVERWRITTEN_S
            while time.monotonic() < until:
                scribbler.write(netbox, (0xBAD000).to_bytes(8, "little"))
                scribbler.write(status, content)
                time.sleep(0.001)
    told = [line for id in machine.record.kernels for line in reports_of_netboxes(machine, id)]
    assert told, "nobody looked meanwhile"
    deadline = time.monotonic() + _RECOVERY_S
    while trouble := _trouble(machine):
        assert time.monotonic() < deadline, trouble


def reports_of_netboxes(machine: Machine, id: int) -> list[str]:
    """What a kernel said of the victim's."""
    return [entry.text for entry in machine.log(id) if f"kernel {_VICTIM} has no usable netbox" in entry.text]


@contextmanager
def _traffic(machine: Machine) -> Iterator[None]:
    """All other kernels send to the victim, and it to them, whatever comes of it."""
    _in_all(machine, f"({_TRAFFIC}) </dev/null >/dev/null 2>&1 & echo $! >/tmp/traffic")
    try:
        yield
    finally:
        _in_all(machine, "kill $(cat /tmp/traffic)")


def _in_all(machine: Machine, script: str) -> None:
    # By the lines: the network is what is attacked.
    answers = machine.exec_all(["sh", "-c", script], via="vty", timeout_s=60)
    assert {id: done.stderr_text for id, done in answers.items() if done.status} == {}


def _assert_unharmed(what: str, machine: Machine, kernels: list[int], kernel: KernelById) -> None:
    """Nobody died or complains, the errors are counted, and all can talk to all again."""
    deadline = time.monotonic() + _RECOVERY_S
    while trouble := _trouble(machine):
        assert time.monotonic() < deadline, trouble
    assert {status.state for status in machine.ps()} == {"running"}
    counted = inbox(kernel(_VICTIM).shell("cat /proc/popcorn/inbox"))
    wrong = kernel(_VICTIM).shell("cat /sys/class/net/pcn0/statistics/rx_errors")
    errors = {"inbox": counted["corrupt"], "netbox": int(wrong), "registry": counted["registry_mended"]}
    assert errors[what] > 0, errors


def _trouble(machine: Machine) -> dict[int, str]:
    """What does not work between the victim and the others, by kernel."""
    answers_by_id = machine.exec_all(["sh", "-c", _CHECK], via="vty", timeout_s=60)
    return {
        id: f"messages: {done.stdout_text}{done.stderr_text}"
        for id, done in answers_by_id.items()
        if done.status or answers(done.stdout_text)[0]["delivered"] != 20
    }
