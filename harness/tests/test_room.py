# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable

import pytest

from popcorn.machine import room
from popcorn.machine.progress import CpuTimes
from popcorn.machine.room import Room


class Times(CpuTimes):
    """Four CPUs, each of which has run, and has waited to, for so long."""

    ran_s = waited_s = 100.0

    def __init__(self) -> None:
        pass

    def read(self, cpus: Iterable[int]) -> dict[int, tuple[float, float]]:
        return dict.fromkeys(cpus, (self.ran_s, self.waited_s))


@pytest.mark.parametrize(
    ("ran_s", "waited_s", "spare"),
    [(0.0, 0.0, True), (0.4, 0.0, True), (0.5, 0.0, False), (0.3, 0.3, False)],
)
def test_there_is_room_while_the_cpus_want_less_than_the_host_has(
    monkeypatch: pytest.MonkeyPatch, ran_s: float, waited_s: float, spare: bool
) -> None:
    clock = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(room.time, "monotonic", lambda: next(clock))
    times = Times()
    looked = Room(times, range(4), host_cpus=2)
    times.ran_s += ran_s
    times.waited_s += waited_s
    assert looked.spare() is spare
    assert looked.spare()  # nothing since


def test_there_is_room_where_the_host_does_not_tell() -> None:
    assert Room(CpuTimes(0), range(4), host_cpus=2).spare()
