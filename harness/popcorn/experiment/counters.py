# SPDX-License-Identifier: Apache-2.0
"""What kernels count, before and after a workload: emulation distorts times, and these hardly.

Interrupts and context switches are the exception: ticks of the timer are among the first, and who waits without
spinning is switched away from and back, so that both grow with how long a trial takes.

    count.interrupts        all interrupts (the first figure of ``intr`` in /proc/stat)
    count.ipis              interrupts from other CPUs: reschedule, function call, TLB shootdown, messages
    count.context_switches  ``ctxt`` in /proc/stat
    count.page_faults       of the workload's processes: ``cminflt`` and ``cmajflt`` of who waited for them, proc(5)
    count.messages          messages that a kernel sent to others, /proc/popcorn/messages
    count.message_ipis      IPIs that it sent to have them looked at, likewise
    count.switch_bytes      bytes that it sent over the interface to the other kernels, /proc/net/dev
    count.instructions      that its CPUs began, in user space and in the kernel; the emulator counts them, in trials
                            of their own (`popcorn.machine.instructions`)

What the two looks themselves cost is in them, some dozens of each, but for the instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from popcorn.run.results import Measurement

FILES = ("/proc/stat", "/proc/interrupts", "/proc/net/dev", "/proc/popcorn/messages")
FRAME = "@@ "
"""What a line begins with that names the file whose content follows."""

INSTRUCTIONS = "count.instructions"
METRICS = {
    INSTRUCTIONS: "instructions",
    "count.interrupts": "interrupts",
    "count.ipis": "IPIs",
    "count.context_switches": "context switches",
    "count.page_faults": "page faults",
    "count.messages": "messages",
    "count.message_ipis": "message IPIs",
    "count.switch_bytes": "switch bytes",
}
# Rows of /proc/interrupts; messages between kernels come by the platform vector, PLT.
_IPI_ROWS = frozenset({"RES", "CAL", "TLB", "PLT"})


def split_files(text: str) -> dict[str, str]:
    """The files of a look, by name."""
    files: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith(FRAME):
            name = line.removeprefix(FRAME).strip()
            files[name] = ""
        elif name:
            files[name] += f"{line}\n"
    return files


def look(text: str, switch: str | None) -> dict[str, int]:
    """The counters in one look at a kernel, by metric; those that the kernel does not have are missing.

    Args:
        switch: the interface to the other kernels.
    """
    files = split_files(text)
    found: dict[str, int] = {}
    stat = _first_values(files.get("/proc/stat", ""))
    for name, metric in (("intr", "count.interrupts"), ("ctxt", "count.context_switches")):
        if name in stat:
            found[metric] = stat[name]
    if files.get("/proc/interrupts"):
        found["count.ipis"] = _ipis(files["/proc/interrupts"])
    for name, metric in (("tx_msgs", "count.messages"), ("ipis_sent", "count.message_ipis")):
        if (total := _column(files.get("/proc/popcorn/messages", ""), name)) is not None:
            found[metric] = total
    if switch is not None and (sent := _sent_bytes(files.get("/proc/net/dev", ""), switch)) is not None:
        found["count.switch_bytes"] = sent
    return found


def cost(stat: str) -> dict[str, int]:
    """What the children that a process has waited for have cost, by metric.

    Args:
        stat: its line in /proc/PID/stat; the name in it may hold spaces.
    """
    fields = stat.rpartition(")")[2].split()
    return {"count.page_faults": int(fields[8]) + int(fields[10])} if len(fields) > 10 else {}


def differences(looks: Iterable[tuple[Mapping[str, int], Mapping[str, int]]]) -> list[Measurement]:
    """What was counted between looks before and after, summed over kernels; only what all of them count."""
    pairs = list(looks)
    return [
        Measurement(metric, float(sum(after[metric] - before[metric] for before, after in pairs)), "")
        for metric in METRICS
        if pairs and all(metric in before and metric in after for before, after in pairs)
    ]


def _first_values(text: str) -> dict[str, int]:
    """``NAME NUMBER …`` lines."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found


def _ipis(text: str) -> int:
    total = 0
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if not colon or name.strip() not in _IPI_ROWS:
            continue
        for word in rest.split():
            if not word.isdigit():
                break
            total += int(word)
    return total


def _column(text: str, name: str) -> int | None:
    """The sum of a column of a table with a heading."""
    lines = [line.split() for line in text.splitlines()]
    if not lines or name not in lines[0]:
        return None
    place = lines[0].index(name)
    return sum(int(row[place]) for row in lines[1:] if len(row) == len(lines[0]) and row[place].isdigit())


def _sent_bytes(text: str, interface: str) -> int | None:
    """The 9th figure of an interface's line in /proc/net/dev."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() == interface:
            fields = rest.split()
            return int(fields[8]) if len(fields) > 8 and fields[8].isdigit() else None
    return None
