# SPDX-License-Identifier: Apache-2.0
"""Reading what kernels tell in /proc."""

from __future__ import annotations


def fields(text: str) -> dict[str, list[str]]:
    """Lines of ``key: value``; a key may come several times."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def interrupts(text: str) -> dict[str, list[int]]:
    """/proc/interrupts: counts by CPU (in the kernel's own order), or one count for those that have no columns."""
    head, *lines = text.splitlines()
    nr_cpus = len(head.split())
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        counts = []
        for word in rest.split()[:nr_cpus]:
            if not word.isdigit():
                break
            counts.append(int(word))
        found[name.strip()] = counts
    return found
