# SPDX-License-Identifier: Apache-2.0
"""Having the kernels of a restored machine go on a few at a time.

QEMU has to translate all code anew, and each CPU that does so holds up the others (`popcorn.machine.room`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from popcorn.machine.debugstub import BEGIN, END, Stub
from popcorn.machine.machine import Machine
from popcorn.machine.progress import CpuTimes
from popcorn.machine.qmp import Qmp
from popcorn.machine.room import HOST_CPUS, Room

# A kernel that goes on has nothing to do before its next tick is due.
_TURN_S = 0.06
_LONGEST_TURN_S = 0.5
_KERNELS_A_HOST_CPU = 4


def resume(machine: Machine, qmp: Qmp) -> float:
    """Have all CPUs of a machine run; returns when they would have begun had they run from then on, in Unix time.

    A machine with few kernels for this host goes on as a whole.

    Raises:
        HostError: QEMU refused.
        MachineLostError: QEMU went away or did not answer.
    """
    kernels = [partition.cpus for partition in machine.plan.partitions]
    if machine.record.accel != "tcg" or len(kernels) <= _KERNELS_A_HOST_CPU * HOST_CPUS:
        return qmp.resume()
    qmp.monitor(BEGIN)
    try:
        with Stub(machine.record.directory) as stub:
            began_s, stood_s = _by_turns(machine, stub, kernels)
            # With the next byte, or when we hang up, all stop once more.
            halted_s = time.time()
            stub.halt()
    finally:
        qmp.monitor(END)
    return began_s + stood_s + (qmp.resume() - halted_s)


def _by_turns(machine: Machine, stub: Stub, kernels: Sequence[Sequence[int]]) -> tuple[float, float]:
    """When the first began, in Unix time, and for how many seconds all stood still since."""
    times = CpuTimes(machine.record.qemu_pid)
    running: list[int] = []
    began_s, stood_s = 0.0, 0.0
    for first in range(0, len(kernels), HOST_CPUS):
        halted_s = time.time()
        if running:
            stub.halt()
        running += [cpu for cpus in kernels[first : first + HOST_CPUS] for cpu in cpus]
        stub.run(running)
        if began_s:
            stood_s += time.time() - halted_s
        else:
            began_s = time.time()
        _await_room(Room(times, running))
    return began_s, stood_s


def _await_room(room: Room) -> None:
    for _ in range(int(_LONGEST_TURN_S / _TURN_S)):
        time.sleep(_TURN_S)
        if room.spare():
            return
