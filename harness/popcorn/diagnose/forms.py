# SPDX-License-Identifier: Apache-2.0
"""The first lines of the reports that Linux prints, 3.2 to 6.12, and the titles that reports go by.

A title groups what has one cause: it holds no address, process, CPU or time, and a file without the line. What one
fault is called must not depend on the kernel's version either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from popcorn.diagnose.frames import called_from, faulting, jumped_nowhere, named, working
from popcorn.diagnose.kinds import Kind

Subject = Literal["faulting", "caller", "working", "named", "lock", "none"]
"""Which function a title names: where a fault was taken, who called, where a CPU is busy, the one in the first line,
who takes the lock."""


@dataclass(frozen=True)
class Form:
    """One kind of report: how its first line begins, and its title with the groups of the pattern by name."""

    kind: Kind
    pattern: re.Pattern[str]
    title: str
    subject: Subject = "faulting"
    derived: bool = False
    """It only tells what the kernel does about another report, or something before it."""

    def title_of(self, found: re.Match[str], texts: Sequence[str]) -> str:
        """The title of a report, from the match of its first line and the lines from there on."""
        groups = {name: _plain(value or "") for name, value in found.groupdict().items()}
        title = self.title.format(**groups)
        if self.subject == "faulting" and jumped_nowhere(texts):
            title = "jump to nowhere"
        function = _SUBJECTS[self.subject](texts)
        return f"{title} in {function}" if function else title


def _lockdep(texts: Sequence[str]) -> str | None:
    for text in texts:
        if found := _AT.search(text):
            return named(found[0])
    return called_from(texts)


_AT = re.compile(r"(?:\bat: |is trying to release lock .* at:).*$")
_SUBJECTS: dict[Subject, Callable[[Sequence[str]], str | None]] = {
    "faulting": faulting,
    "caller": called_from,
    "working": working,
    "named": lambda texts: named(texts[0]) or faulting(texts),
    "lock": _lockdep,
    "none": lambda texts: None,
}

# What differs between two occurrences of the same: addresses, processes, CPUs, lines; and where it was built.
_VARYING = [
    (re.compile(r"(?<![\w.])(?:\.\./)+"), ""),
    (re.compile(r"(?<=\w)\+0x[0-9a-f]+/0x[0-9a-f]+"), ""),
    (re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{16})\b"), "NUMBER"),
    (re.compile(r"(?<=\.[chS]):\d+(?::\d+)?"), ""),
    (re.compile(r"\bCPU[ #:]*\d+"), "CPU"),
    (re.compile(r"(?<=[:/ =])\d+\b"), "N"),
]


def _plain(text: str) -> str:
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text.strip(" .!:\t")


def _form(kind: Kind, pattern: str, title: str, subject: Subject = "faulting", *, derived: bool = False) -> Form:
    return Form(kind, re.compile(pattern), title, subject, derived)


_LOCKDEP = (
    r"possible (?:recursive locking|circular locking dependency|irq lock inversion dependency)|inconsistent lock state"
    r"|suspicious (?:RCU|rcu_dereference_check\(\)) usage|bad (?:unlock|contention) balance|held lock freed"
    r"|lock held (?:at task exit time|when returning to user space)|nested lock was not taken|Invalid wait context"
    r"|\S+-safe -> \S+-unsafe lock order"
)
_TOOLS = r"BUG: (?P<tool>KASAN|KFENCE|KMSAN|KCSAN): "
_WATCHDOG = r"(?:NMI watchdog: |watchdog: )?"
_PANIC = r"Kernel panic - not syncing: "
# What a panic says that comes of another report.
_AFTERMATH = (
    r"Fatal exception.*|panic_on_\w+ set.*|softlockup: hung tasks|Hard LOCKUP|hung_task: blocked tasks|RCU Stall"
    r"|Attempted to kill (?:init|the idle task)|Out of memory.*|System is deadlocked on memory"
)

# The first that fits decides. A report's own later lines are listed in `reports`.
FORMS = (
    _form(Kind.KASAN, rf"{_TOOLS}(?P<what>.+?) in \S+\+0x", "{tool}: {what}", "named"),
    _form(Kind.KASAN, rf"{_TOOLS}(?P<what>.+)", "{tool}: {what}", "caller"),
    _form(Kind.UBSAN, r"UBSAN: (?P<what>.+)", "UBSAN: {what}", "none"),
    _form(Kind.LOCKDEP, rf"(?:WARNING: |INFO: |BUG: |\[ (?:INFO|BUG): )?(?P<what>{_LOCKDEP})", "{what}", "lock"),
    _form(
        Kind.HARD_LOCKUP,
        rf"{_WATCHDOG}(?:BUG: )?(?:NMI )?Watchdog detected hard LOCKUP on cpu",
        "hard lockup",
        "working",
    ),
    _form(Kind.SOFT_LOCKUP, rf"{_WATCHDOG}BUG: soft lockup - CPU", "soft lockup", "working"),
    _form(Kind.RCU_STALL, r"(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stalls? on ", "RCU stall", "working"),
    _form(Kind.HUNG_TASK, r"INFO: task .+ blocked (?:in I/O wait )?for more than \d+ seconds", "hung task", "caller"),
    _form(Kind.OUT_OF_MEMORY, r"(?P<who>.+?) invoked oom-killer:", "out of memory", "none"),
    _form(Kind.OUT_OF_MEMORY, r"(?:Out of memory|Memory cgroup out of memory)", "out of memory", "none"),
    _form(Kind.OOPS, r"BUG: (?:unable to handle )?kernel NULL pointer dereference", "NULL pointer dereference"),
    _form(Kind.OOPS, r"BUG: unable to handle (?:page fault|kernel paging request)", "bad page fault"),
    _form(Kind.OOPS, r"BUG: .*stack guard page was hit at", "stack overflow"),
    _form(Kind.OOPS, r"(?:traps: )?PANIC: double fault", "double fault"),
    _form(Kind.OOPS, r"(?:Oops: )?general protection fault.*: [0-9a-f]{4} \[#\d+\]", "general protection fault"),
    _form(Kind.OOPS, r"(?:Oops: )?(?P<what>[a-zA-Z][a-zA-Z0-9 -]*?)(?:, .*)?: [0-9a-f]{4} \[#\d+\]", "{what}"),
    _form(Kind.BUG, r"(?P<what>(?:list_(?:add|del|add_rcu)|hlist_\w+) corruption)", "{what}", "caller"),
    _form(Kind.BUG, r"kernel BUG at (?P<where>\S+)", "BUG at {where}"),
    _form(Kind.BUG, r"Kernel BUG at (?P<where>\S+\+0x\S+)", "BUG", "named"),
    _form(Kind.BUG, r"BUG: (?P<what>sleeping function called from invalid context)", "{what}", "caller"),
    _form(Kind.BUG, r"BUG: (?P<what>scheduling while atomic)", "{what}", "caller"),
    _form(Kind.BUG, r"BUG: (?P<what>spinlock \w+|rwlock \w+|\S+ lockup suspected)", "{what}", "caller"),
    _form(Kind.BUG, r"BUG: (?P<what>Bad (?:page|rss-counter) \w+)", "{what}", "caller"),
    _form(Kind.BUG, r"BUG (?P<cache>\S+) \(.*\): (?P<what>.+)", "slab {cache}: {what}", "caller"),
    _form(Kind.BUG, r"BUG: (?P<what>\S.*)", "BUG: {what}", "caller"),
    _form(Kind.WARNING, r"WARNING: (?:CPU: \d+ PID: \d+ )?at \S+ \S+\+0x", "WARNING", "named"),
    _form(Kind.WARNING, r"WARNING: CPU: \d+ PID: \d+ at ", "WARNING", "caller"),
    _form(Kind.PANIC, rf"{_PANIC}(?P<what>{_AFTERMATH})", "panic: {what}", "none", derived=True),
    _form(Kind.PANIC, rf"{_PANIC}(?P<what>.*)", "panic: {what}", "none"),
)
