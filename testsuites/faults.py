# SPDX-License-Identifier: Apache-2.0
"""Faults that a kernel is asked for, what becomes of it, and how it comes back."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from command import popcorn
from messages import answers

from popcorn.errors import GuestError
from popcorn.machine.status import KernelStatus
from popcorn.testing import Kernel

FAULT_FILE = "/proc/popcorn/fault"
LAST_WORDS = "these are the last words of a kernel"
_ONSET_S = 0.3
_DEADLINE_S = 90.0


def asked(fault: str) -> str:
    """The shell command that asks the kernel it runs in for a fault."""
    return f"echo {fault} >{FAULT_FILE}"


@dataclass(frozen=True)
class Fault:
    """What is done to a kernel, and what is told of it afterwards."""

    name: str
    command: str
    """A shell runs it in the kernel."""
    ends: str
    """The state it comes to; ``hung`` if it has to be killed, and ``running`` if it goes on but for what hangs."""
    title: str
    """Of its diagnosis; a regular expression."""


FAULTS = (
    Fault("panic", asked("panic"), "dead", r"panic: fault on request"),
    Fault("oops", asked("oops"), "running", r"NULL pointer dereference in fault_oops"),
    Fault("BUG", asked("bug"), "running", r"BUG at drivers/popcorn/fault\.c in fault_bug"),
    Fault("BUG in interrupt", asked("bug-irq"), "dead", r"BUG at drivers/popcorn/fault\.c in bug_in_interrupt"),
    Fault("stack overflow", asked("stack"), "dead", r"stack overflow in recurse"),
    Fault("NULL call", asked("null-call"), "running", r"jump to nowhere in fault_null_call"),
    Fault("loop with interrupts off", asked("loop"), "hung", r"hung: busy and without a heartbeat"),
    Fault("deadlock", asked("deadlock"), "hung", r"hung: busy and without a heartbeat"),
    Fault("hung task", asked("hang"), "running", r""),
    Fault("out of memory", asked("oom"), "dead", r"out of memory"),
    Fault("death with a message slot", asked("claim 5"), "hung", r"hung: busy and without a heartbeat"),
    Fault("reboot -f", "busybox reboot -f", "parked", r"parked: "),
    Fault("poweroff -f", "busybox poweroff -f", "parked", r"parked: "),
    Fault("sysrq b", "echo b >/proc/sysrq-trigger", "parked", r"parked: "),
    Fault("sysrq c", "echo c >/proc/sysrq-trigger", "dead", r"panic: sysrq triggered crash"),
    Fault("sysrq o", "echo o >/proc/sysrq-trigger", "parked", r"parked: "),
)


def inflict(kernel: Kernel, command: str) -> None:
    """Have it happen a moment after the kernel answered; the answer of one that is slow to give it may be lost."""
    with suppress(GuestError):
        kernel.shell(f"echo {LAST_WORDS} >/dev/kmsg; (sleep {_ONSET_S}; {command}) </dev/null >/dev/null 2>&1 &")


def await_said(kernel: Kernel, words: str) -> None:
    """Wait until it has said something after its last words."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        said = "\n".join(entry.text for entry in kernel.machine.log(kernel.id)).rpartition(LAST_WORDS)[2]
        if words in said:
            return
        assert time.monotonic() < deadline, f"kernel {kernel.id} did not say {words!r}"
        time.sleep(0.1)


def status_of(kernel: Kernel) -> KernelStatus:
    """What `ps` says of it."""
    return next(status for status in kernel.machine.ps() if status.id == kernel.id)


def await_fault(kernel: Kernel, fault: Fault) -> None:
    """Wait until it happened, and the kernel came to the state that it ends in."""
    if fault.command.endswith(FAULT_FILE):
        await_said(kernel, "fault on request: ")
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        status = status_of(kernel)
        if (status.health if fault.ends == "hung" else status.state) == fault.ends:
            return
        assert time.monotonic() < deadline, (
            f"kernel {kernel.id} is {status.state}, {status.health}; expected {fault.ends}"
        )
        time.sleep(0.1)


def diagnosed(kernel: Kernel) -> dict[str, Any]:
    """What `diagnose` says of it."""
    told = popcorn("diagnose", "--name", kernel.machine.name, "--json", str(kernel.id))
    assert told.returncode in (0, 1), told.stderr
    (found,) = json.loads(told.stdout)["kernels"]
    return dict(found)


def restart(kernel: Kernel) -> None:
    """In place, whatever it does."""
    generation = status_of(kernel).generation
    done = popcorn("restart", "--name", kernel.machine.name, "--force", str(kernel.id))
    assert done.returncode == 0, done.stderr
    assert (status_of(kernel).state, status_of(kernel).generation) == ("running", generation + 1)


def assert_back(kernel: Kernel, neighbour: Kernel) -> None:
    """It computes, has messages from another, and that has them from it."""
    assert kernel.shell("echo $((6 * 7))") == "42\n"
    for one, other in ((kernel, neighbour), (neighbour, kernel)):
        (told,) = answers(one.shell(f"popcorn-msg stream {other.id} -n 20 -l 2000"))
        assert told["delivered"] == 20
