# SPDX-License-Identifier: Apache-2.0
"""A debugger on one kernel of a machine that is up, through QEMU's stub.

A secondary runs at the virtual address that it was linked at, by its own page tables, wherever it was loaded: on a CPU
of its own, addresses of its symbols are right as they are. The stub gives each CPU as a thread, counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from popcorn.diagnose.dump import Target
from popcorn.machine.debugstub import BEGIN, END, SOCKET
from popcorn.machine.machine import Machine


def commands(target: Target, vmlinux: Path, socket: Path) -> list[str]:
    """What to tell gdb to get at a kernel.

    Args:
        vmlinux: its image, with debug information or with symbols only.
    """
    return [
        "set pagination off",
        "set confirm off",
        f"file {vmlinux}",
        f"target remote {socket}",
        f"thread {target.cpus[0] + 1}",
    ]


@contextmanager
def stub(machine: Machine) -> Iterator[Path]:
    """QEMU's stub for debuggers, on a socket of this user's, for as long as the block takes; gives the socket.

    The machine goes on when the block ends, whatever the debugger did. Errors as for `Qmp`.
    """
    socket = machine.record.directory / SOCKET
    with machine.qmp() as qmp:
        qmp.monitor(BEGIN)
    try:
        yield socket
    finally:
        with machine.qmp() as qmp:
            qmp.monitor(END)
            # Some CPUs may stand still while others run, which QEMU calls running.
            qmp.execute("stop")
            qmp.execute("cont")


def argv(program: str, lines: Sequence[str], rest: Sequence[str]) -> list[str]:
    """gdb's command line."""
    return [program, "-q", "-nx", *(word for line in lines for word in ("-ex", line)), *rest]
