# SPDX-License-Identifier: Apache-2.0
"""``popcorn-msg`` in a kernel: run, and its answers read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from popcorn.errors import GuestError
from popcorn.guest.finished import Finished
from popcorn.machine.machine import Machine

_TIMEOUT_S = 300.0
_COUNTERS = "/proc/popcorn/messages"

Answer = dict[str, Any]


def popcorn_msg(machine: Machine, kernel: int, *words: str | int) -> list[Answer]:
    """Run the tool in a kernel.

    Raises:
        GuestError: it failed, or the kernel cannot be reached.
        MachineLostError: the machine is gone.
    """
    return answers(kernel, machine.exec(kernel, ["popcorn-msg", *map(str, words)], timeout_s=_TIMEOUT_S))


def popcorn_msg_everywhere(machine: Machine, *words: str | int) -> dict[int, list[Answer]]:
    """Run the tool in all kernels at once; errors as for `popcorn_msg`."""
    done = machine.exec_all(["popcorn-msg", *map(str, words)], timeout_s=_TIMEOUT_S)
    return {kernel: answers(kernel, one) for kernel, one in done.items()}


def answers(kernel: int, done: Finished) -> list[Answer]:
    """The objects that it printed, one a line.

    Raises:
        GuestError: it failed, or printed something else.
    """
    if done.status:
        said = done.stderr_text.strip() or done.stdout_text.strip() or "it said nothing"
        raise GuestError(f"{' '.join(done.argv)} in kernel {kernel} ended with status {done.status}: {said}")
    try:
        found = [json.loads(line) for line in done.stdout_text.splitlines()]
    except ValueError as error:
        raise GuestError(f"{' '.join(done.argv)} in kernel {kernel} printed what is no JSON: {error}") from error
    if not found or not all(isinstance(one, dict) for one in found):
        raise GuestError(f"{' '.join(done.argv)} in kernel {kernel} printed no objects: {done.stdout_text[:200]!r}")
    return found


def counters(machine: Machine, kernel: int, other: int) -> dict[str, int]:
    """What a kernel counted of the messages that it exchanged with another one.

    Raises:
        GuestError: the kernel cannot be reached, or knows nothing of the other.
    """
    done = machine.exec(kernel, ["cat", _COUNTERS], timeout_s=_TIMEOUT_S)
    return parse_counters(done.stdout_text, kernel, other)


def parse_counters(text: str, kernel: int, other: int) -> dict[str, int]:
    """The row of one other kernel in a kernel's /proc/popcorn/messages; errors as for `counters`."""
    lines: Sequence[list[str]] = [line.split() for line in text.splitlines()]
    for line in lines[1:]:
        if line[0] == str(other) and len(line) == len(lines[0]):
            return dict(zip(lines[0], map(int, line), strict=True))
    raise GuestError(f"{_COUNTERS} of kernel {kernel} tells nothing of kernel {other}", hint="is that kernel up?")
