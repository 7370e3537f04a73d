# SPDX-License-Identifier: Apache-2.0
"""Faults that a kernel is asked for, and what it says of them."""

from __future__ import annotations

import time
from contextlib import suppress

from conftest import Kernel

from popcorn.errors import GuestError

FAULT_FILE = "/proc/popcorn/fault"
LAST_WORDS = "these are the last words of a kernel"
_ONSET_S = 0.3
_DEADLINE_S = 90.0


def asked(fault: str) -> str:
    """The shell command that asks the kernel it runs in for a fault."""
    return f"echo {fault} >{FAULT_FILE}"


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
