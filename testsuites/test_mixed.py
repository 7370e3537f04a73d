# SPDX-License-Identifier: Apache-2.0
"""Kernels of different versions on one machine start each other and work together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from popcorn.machine.machine import Machine
from popcorn.testing import MIXED, Kernel

pytestmark = pytest.mark.machine("small", policy="0;1;2", series=MIXED)

Everywhere = Callable[[str], dict[int, str]]


def test_every_kernel_is_of_the_series_it_was_asked_to_be(
    machine: Machine, everywhere: Everywhere, series: str
) -> None:
    primary, _, secondaries = series.partition("+")
    running = {id: text.strip() for id, text in everywhere("uname -r").items()}
    assert running[0].startswith(f"{primary}.")
    assert all(running[id].startswith(f"{secondaries}.") for id in (1, 2))
    assert {status.id: status.release for status in machine.ps()} == running


def test_every_kernel_sees_all_others_and_what_they_are(everywhere: Everywhere) -> None:
    seen = everywhere("while read -r id state stage rest; do echo $id $state $stage; done </proc/popcorn/kernels")
    assert all(text == seen[0] for text in seen.values())
    assert seen[0].count("running user") == 3


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 0), (1, 2)])
def test_messages_come_and_go_between_them(one: int, other: int, kernel: Callable[[int], Kernel]) -> None:
    done = kernel(one).run(["popcorn-msg", "ping", str(other), "-n", "100"])
    assert done.status == 0, done.stderr_text


def test_the_network_reaches_every_kernel_from_every_kernel(everywhere: Everywhere) -> None:
    everywhere("for host in 1 2 3; do busybox ping -q -c 1 -W 20 10.80.0.$host || exit 1; done")


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 0)])
def test_frames_of_sixty_thousand_bytes_pass_between_them(
    one: int, other: int, kernel: Callable[[int], Kernel]
) -> None:
    kernel(one).shell(f"busybox ping -q -c 3 -W 20 -s 60000 10.80.0.{other + 1}")
