# SPDX-License-Identifier: Apache-2.0
"""A file of the primary comes to another kernel whole or not at all, and nothing goes on offering it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from popcorn.errors import GuestError
from popcorn.guest import handing
from popcorn.guest.handing import hand_over
from popcorn.machine.machine import Machine
from popcorn.testing import Kernel

pytestmark = pytest.mark.machine("small", policy="per-core")

_TO, _STRANGER, _PORT = 6, 5, 29_999
_FILE, _COPY = "/boot/vmlinux", "/tmp/handed"
_GONE_S = 10.0


@pytest.fixture(autouse=True)
def _known_port_and_little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "_PORTS", [_PORT])
    monkeypatch.setattr(handing, "_PATIENCE_S", 3)


def _await_no_offer(primary: Kernel) -> None:
    deadline = time.monotonic() + _GONE_S
    while primary.run(["sh", "-c", f"busybox ps -o args | grep -q '[n]c -l.*{_PORT}\\|[c]at {_FILE}'"]).status == 0:
        assert time.monotonic() < deadline, "it is offered still"
        time.sleep(0.2)


def test_a_file_arrives_whole_with_its_permissions(machine: Machine, kernel: Callable[[int], Kernel]) -> None:
    look = "stat -c %a {0} && sha256sum <{0}"
    hand_over(machine, _FILE, _TO, _COPY)
    assert kernel(_TO).shell(f"{look.format(_COPY)}; rm {_COPY}") == kernel(0).shell(look.format(_FILE))
    _await_no_offer(kernel(0))


def test_what_a_stranger_fetched_first_is_told_not_to_have_arrived(
    machine: Machine, kernel: Callable[[int], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kernel(_TO).shell("ls -A /tmp")
    first = f"until busybox nc 10.80.0.1 {_PORT} </dev/null >/dev/null 2>&1; do :; done"
    kernel(_STRANGER).shell(f"({first}) </dev/null >/dev/null 2>&1 & echo $! >/tmp/stranger")
    monkeypatch.setattr(handing, "_TAKE", f"sleep 3{handing._TAKE}")
    try:
        with pytest.raises(GuestError, match=f"did not arrive in kernel {_TO}: it is not what was sent"):
            hand_over(machine, _FILE, _TO, _COPY)
    finally:
        kernel(_STRANGER).shell("kill $(cat /tmp/stranger) 2>/dev/null; rm /tmp/stranger")
    assert kernel(_TO).shell("ls -A /tmp") == before
    _await_no_offer(kernel(0))


def test_what_does_not_fit_is_refused_and_leaves_nothing(machine: Machine, kernel: Callable[[int], Kernel]) -> None:
    kernel(_TO).shell("mkdir /tmp/little && busybox mount -t tmpfs -o size=5m none /tmp/little")
    try:
        with pytest.raises(GuestError, match="there is room for"):
            hand_over(machine, _FILE, _TO, "/tmp/little/handed")
        assert kernel(_TO).shell("ls -A /tmp/little") == ""
    finally:
        kernel(_TO).shell("busybox umount /tmp/little && rmdir /tmp/little")
    _await_no_offer(kernel(0))


def test_who_goes_away_leaves_no_offer(
    machine: Machine, kernel: Callable[[int], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "_TAKE", "sleep 60")
    monkeypatch.setattr(handing, "_TRANSFER_S", 2.0)
    with pytest.raises(GuestError, match="did not arrive in kernel"):
        hand_over(machine, _FILE, _TO, _COPY)
    _await_no_offer(kernel(0))
