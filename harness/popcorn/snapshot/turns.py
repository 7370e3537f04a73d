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
from popcorn.plan import Plan

# A kernel that goes on has nothing to do before its next tick is due.
_TURN_S = 0.06
_LONGEST_TURN_S = 0.5
# A kernel that waits for so much longer would be taken for dead.
_ALL_TURNS_S = 4.0
_CPUS_A_HOST_CPU = 4


def resume(machine: Machine, qmp: Qmp) -> float:
    """Have all CPUs of a machine run; returns when they would have begun had they run from then on, in Unix time.

    A machine with few CPUs for this host goes on as a whole.

    Raises:
        HostError: QEMU refused.
        MachineLostError: QEMU went away or did not answer.
    """
    plan = machine.plan
    if machine.record.accel != "tcg" or plan.machine.nr_cpus <= _CPUS_A_HOST_CPU * HOST_CPUS:
        return qmp.resume()
    qmp.monitor(BEGIN)
    try:
        with Stub(machine.record.directory) as stub:
            began_s, stood_s = _by_turns(CpuTimes(machine.record.qemu_pid), stub, _turns(plan))
            # QEMU takes these CPUs for a machine that runs: its own order lets all of them run that stands still.
            halted_s = time.time()
            stub.halt()
    finally:
        qmp.monitor(END)
    return began_s + stood_s + (qmp.resume() - halted_s)


def _turns(plan: Plan) -> list[list[int]]:
    """CPUs that begin together: whole kernels, for as many CPUs as the host has."""
    turns: list[list[int]] = [[]]
    for partition in plan.partitions:
        if len(turns[-1]) >= HOST_CPUS:
            turns.append([])
        turns[-1] += partition.cpus
    return turns


def _by_turns(times: CpuTimes, stub: Stub, turns: Sequence[Sequence[int]]) -> tuple[float, float]:
    """When the first began, in Unix time, and for how many seconds all stood still since."""
    running = list(turns[0])
    stub.run(running)
    began_s, stood_s = time.time(), 0.0
    for turn in turns[1:]:
        if time.time() - began_s > _ALL_TURNS_S:
            break
        _await_room(Room(times, running))
        halted_s = time.time()
        stub.halt()
        running += turn
        stub.run(running)
        stood_s += time.time() - halted_s
    _await_room(Room(times, running))
    return began_s, stood_s


def _await_room(room: Room) -> None:
    for _ in range(int(_LONGEST_TURN_S / _TURN_S)):
        time.sleep(_TURN_S)
        if room.spare():
            return
