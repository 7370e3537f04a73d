# SPDX-License-Identifier: Apache-2.0
"""Measuring a machine that has just booted: time, CPU time of the host, memory; by kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from popcorn.machine.machine import Machine
from popcorn.run.results import Measurement

_MIB = 1 << 20


def boot_measurements(machine: Machine, wall_s: float) -> list[Measurement]:
    """What the boot of a machine took, by kernel and in all.

    Metrics of a kernel: ``boot.started``, ``boot.user`` (since QEMU's start), ``boot.early``,
    ``boot.running`` (each since the stage before), ``boot.wall`` (from the start of its CPU to its userspace),
    ``boot.cpu`` (CPU time that its virtual CPUs took from the host), ``boot.cpu_self`` (busy time that it counted),
    ``memory.resident``, ``memory.beyond_page_array``. Of the machine: ``boot.wall``, ``boot.cpu``.

    Args:
        wall_s: from QEMU's start until all userspaces were ready.
    """
    cpu_by_cpu = vcpu_seconds(machine)
    found = [
        Measurement("boot.wall", wall_s, "s"),
        Measurement("boot.cpu", _cpu_seconds(Path(f"/proc/{machine.record.qemu_pid}/stat")), "s"),
    ]
    times = {boot.id: boot for boot in machine.boot_times()}
    for status in machine.ps():
        boot = times.get(status.id)
        if boot is None:
            continue
        begun = 0.0 if status.id == machine.plan.primary.id else boot.started_s
        wall = None if boot.user_s is None or begun is None else boot.user_s - begun
        # The firmware, and nobody else, started the primary.
        launched = (
            {}
            if status.id == machine.plan.primary.id
            else {
                "boot.started": boot.started_s,
                "boot.early": boot.early_s,
                "boot.running": boot.running_s,
            }
        )
        seconds = {
            **launched,
            "boot.user": boot.user_s,
            "boot.wall": wall,
            "boot.cpu": sum(cpu_by_cpu.get(cpu, 0.0) for cpu in status.cpus),
            "boot.cpu_self": boot.cpu_s,
        }
        found += [_measured(metric, value, "s", status.id) for metric, value in seconds.items()]
        found.append(_measured("memory.resident", status.resident_bytes, "B", status.id))
        found.append(_measured("memory.beyond_page_array", status.beyond_page_array_bytes, "B", status.id))
    return found


def values(measurements: Sequence[Measurement], metric: str) -> dict[int, float]:
    """A metric by kernel; kernels without a value are left out."""
    return {
        one.kernel: one.value
        for one in measurements
        if one.metric == metric and one.kernel is not None and one.value is not None
    }


def memory_of_secondaries(measurements: Sequence[Measurement]) -> dict[int, float]:
    """MiB that each secondary cost the host when it had booted, its page array left out, by kernel."""
    found = values(measurements, "memory.beyond_page_array")
    return {id: value / _MIB for id, value in found.items() if id != 0}


def vcpu_seconds(machine: Machine) -> dict[int, float]:
    """CPU time that each virtual CPU's thread has taken from the host, by global CPU number.

    Raises:
        MachineLostError: QEMU does not answer.
    """
    with machine.qmp() as qmp:
        threads = qmp.execute("query-cpus-fast")
    tasks = Path(f"/proc/{machine.record.qemu_pid}/task")
    return {int(cpu["cpu-index"]): _cpu_seconds(tasks / str(cpu["thread-id"]) / "stat") for cpu in threads}


def qemu_seconds(machine: Machine) -> float:
    """CPU time that a machine's QEMU has taken from the host; 0 when it is gone."""
    try:
        return _cpu_seconds(Path(f"/proc/{machine.record.qemu_pid}/stat"))
    except OSError:
        return 0.0


def _cpu_seconds(stat: Path) -> float:
    """proc(5): utime and stime are the 14th and 15th fields; the name before them may hold spaces."""
    fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measured(metric: str, value: float | None, unit: str, kernel: int) -> Measurement:
    return Measurement(metric, value, unit, kernel, "void" if value is None else "ok")
