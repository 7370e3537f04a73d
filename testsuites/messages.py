# SPDX-License-Identifier: Apache-2.0
"""What suites on messages have in common: the counters of kernels, and popcorn-msg's answers."""

from __future__ import annotations

import json
import time
from typing import Any

from proc import fields

from popcorn.testing import Everywhere, Kernel

Row = dict[str, int]

_SETTLE_S = 30.0
NEVER = ("tx_lost", "rx_unhandled", "rx_late", "rx_dropped", "rx_skipped")
"""Counters that stay 0 while no kernel dies and every message has somebody who wants it."""
# The id of the kernel that a script runs in.
OWN_ID = 'id=$(sed -n "s/^id: //p" /proc/popcorn/self)'


def rows(text: str) -> dict[int, Row]:
    """/proc/popcorn/messages: counters by the other kernel's id."""
    head, *lines = (line.split() for line in text.splitlines())
    return {int(line[0]): dict(zip(head[1:], map(int, line[1:]), strict=True)) for line in lines}


def inbox(text: str) -> Row:
    """/proc/popcorn/inbox."""
    return {key: int(values[0]) for key, values in fields(text).items()}


def answers(text: str) -> list[dict[str, Any]]:
    """What popcorn-msg printed: an object a line."""
    return [json.loads(line) for line in text.splitlines()]


def counters(everywhere: Everywhere) -> dict[int, dict[int, Row]]:
    """The counters of all kernels, taken when they stand still."""
    deadline = time.monotonic() + _SETTLE_S
    last = None
    while True:
        found = {id: rows(text) for id, text in everywhere("cat /proc/popcorn/messages").items()}
        if found == last:
            return found
        assert time.monotonic() < deadline, f"messages still flow after {_SETTLE_S:g} s: {last} {found}"
        last = found


def gained(before: dict[int, dict[int, Row]], after: dict[int, dict[int, Row]]) -> dict[int, dict[int, Row]]:
    """By how much counters grew."""
    return {
        one: {
            other: {name: count - before[one].get(other, {}).get(name, 0) for name, count in row.items()}
            for other, row in others.items()
        }
        for one, others in after.items()
    }


def assert_both_sides_agree(found: dict[int, dict[int, Row]]) -> None:
    """What each kernel sent to each other one is what that one received of it; none was lost."""
    for one, others in found.items():
        for other, sent in others.items():
            received = found[other][one]
            pair = f"from kernel {one} to kernel {other}"
            assert sent["tx_msgs"] == received["rx_msgs"], f"messages {pair}"
            assert sent["tx_bytes"] == received["rx_bytes"], f"bytes {pair}"
            for name in NEVER:
                assert sent[name] == 0, f"{name} of kernel {one} with kernel {other}"


def refusal(kernel: Kernel, script: str) -> str:
    """What popcorn-msg says when it is refused something; exit status 1."""
    done = kernel.run(["sh", "-c", script])
    assert done.status == 1, f"kernel {kernel.id}: {script!r} ended with {done.status}: {done.stderr_text}"
    assert done.stderr_text.startswith("popcorn-msg: "), done.stderr_text
    return done.stderr_text


def send_when_bound(source: str, words: str) -> str:
    """A script that sends what ``source`` prints, as soon as somebody is bound to the port."""
    return (
        f"until {source} | popcorn-msg send {words} 2>/tmp/refused; do "
        'grep -q "after 0 messages: no process of that kernel is bound" /tmp/refused || '
        "{ cat /tmp/refused >&2; exit 1; }; sleep 0.1; done"
    )
