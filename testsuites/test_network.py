# SPDX-License-Identifier: Apache-2.0
"""Every kernel is a host on one network."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from neighbours import assert_neighbours_known

from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of
from popcorn.testing import EVERY_SERIES, Kernel

pytestmark = pytest.mark.machine("small", policy="per-core", series=EVERY_SERIES)

Everywhere = Callable[[str], dict[int, str]]


def _address(id: int) -> str:
    return str(address_of(id).v4)


def _address6(id: int) -> str:
    return str(address_of(id).v6)


def _pings(count: int, options: str) -> str:
    """A script that prints how many echo requests were answered.

    Each is sent by itself: once a first one was answered, busybox waits for two round trips and no more, however long
    it was told to, and on a busy host the next may take longer.
    """
    numbers = " ".join(map(str, range(count)))
    ping = f"busybox ping -q -c 1 -W 20 {options}"
    return f"for number in {numbers}; do {ping}; done | grep -c ' 1 packets received'"


def _ping_all(kernels: list[int], count: int, address: Callable[[int], str]) -> str:
    """A script that pings every kernel and prints ``ID ANSWERED`` for each."""
    return "; ".join(f'echo "{id} $({_pings(count, address(id))})"' for id in kernels)


def _assert_all_answered(kernels: list[int], answers: dict[int, str], count: int) -> None:
    for id, text in answers.items():
        assert text.splitlines() == [f"{other} {count}" for other in kernels], f"from kernel {id}: {text}"


def test_every_kernel_reaches_every_other(kernels: list[int], everywhere: Everywhere) -> None:
    _assert_all_answered(kernels, everywhere(_ping_all(kernels, 3, _address)), 3)


def test_no_kernel_has_to_ask_for_the_hardware_address_of_another(machine: Machine, everywhere: Everywhere) -> None:
    assert_neighbours_known(machine, everywhere)


def test_every_kernel_reaches_every_other_by_ipv6(kernels: list[int], everywhere: Everywhere) -> None:
    _assert_all_answered(kernels, everywhere(_ping_all(kernels, 2, _address6)), 2)


def test_frames_of_sixty_thousand_bytes_pass(kernels: list[int], kernel: Callable[[int], Kernel]) -> None:
    assert kernel(kernels[1]).shell(_pings(5, f"-s 60000 {_address(kernels[-1])}")) == "5\n"


def test_a_stream_between_two_secondaries_arrives_unharmed(kernels: list[int], kernel: Callable[[int], Kernel]) -> None:
    one, other = kernels[1], kernels[2]
    # Its own input stays open: else it would hang up at once.
    listen = "busybox sleep 60 | busybox nc -l -p 5000 | busybox sha256sum >/tmp/sum"
    kernel(other).shell(f"({listen}) </dev/null >/dev/null 2>&1 &")
    kernel(one).shell(
        "busybox yes popcorn | busybox head -c 8000000 >/tmp/sent; "
        f"for i in 1 2 3 4 5 6 7 8 9; do busybox nc {_address(other)} 5000 </tmp/sent && break; sleep 1; done"
    )
    expected = kernel(one).shell("busybox sha256sum </tmp/sent; rm /tmp/sent")
    deadline = time.monotonic() + 30
    while not (got := kernel(other).shell("cat /tmp/sum")) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert got == expected


@pytest.mark.machine("small", policy="per-core", scratch=True, series=EVERY_SERIES)
def test_a_kernel_that_dies_takes_nothing_down_and_gets_its_address_back(
    machine: Machine, kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    victim, one, other = kernels[3], kernels[1], kernels[-1]
    ping = f"busybox ping -q -c 3 -i 0.2 -W 5 {_address(victim)}"
    # What is not there does not answer later either.
    vain_ping = f"busybox ping -q -c 3 -i 0.2 -W 1 {_address(victim)}"
    assert kernel(one).run(["sh", "-c", ping]).status == 0
    machine.exec(
        0, ["popcorn-vty", "exec", "--timeout", "5", str(victim), "--", "sh", "-c", "echo c >/proc/sysrq-trigger"]
    )
    deadline = time.monotonic() + 60
    while {status.id: status.state for status in machine.ps()}[victim] != "dead":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert kernel(one).run(["sh", "-c", vain_ping]).status == 1
    kernel(one).shell(f"busybox ping -q -c 3 -i 0.2 -W 5 {_address(other)}")
    kernel(0).shell(f"popcorn-launch {victim}")
    while {status.id: status.stage for status in machine.ps()}[victim] != "user":
        assert time.monotonic() < deadline + 60
        time.sleep(0.2)
    for id in (0, one, other):
        kernel(id).shell(ping)
