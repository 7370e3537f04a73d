# SPDX-License-Identifier: Apache-2.0
"""Patches on top of the series, one of them bad: each changes one file, as a step of a bisection usually does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from popcorn.build.apply import apply_series
from popcorn.build.git import ScratchIndex, git, linux_repository, scratch_index
from popcorn.build.series import load_series
from popcorn.build.source import find_base

NR_PATCHES = 30
_HARMLESS = ("call", "claim", "group", "life", "peer", "record", "recorder", "region", "stop")


@dataclass(frozen=True)
class Bad:
    """What a bad patch does to a file below kernel/popcorn: text replaced once, and text appended."""

    file: str
    old: str = ""
    new: str = ""
    appended: str = ""


_AT_BOOT = """
#include <linux/irqflags.h>
#include <linux/init.h>
#include <linux/panic.h>
#include <asm/processor.h>

static int __init planted(void)
{{
	if (popcorn_self() == 3{condition})
		{deed};
	return 0;
}}
late_initcall(planted);
"""

BAD = {
    "compile error": Bad("stop.c", appended="\nint popcorn_planted(void)\n{\n\treturn not_there;\n}\n"),
    "boot hang": Bad(
        "clock.c",
        appended=_AT_BOOT.format(condition="", deed="for (local_irq_disable();;)\n\t\t\tcpu_relax()"),
    ),
    "wrong result": Bad(
        "proc.c", 'seq_printf(m, "loader: %u\\n", slot->loader);', 'seq_printf(m, "loader: %u\\n", slot->loader + 1);'
    ),
    "wrong id": Bad(
        "proc.c", 'seq_printf(m, "id: %u\\n", popcorn_self());', 'seq_printf(m, "id: %u\\n", popcorn_self() ^ 64);'
    ),
    "flaky crash": Bad(
        "clock.c",
        # One in five: nothing that a boot does is so far from the TSC's lower bits as to be in step with them.
        appended=_AT_BOOT.format(condition=" && (popcorn_arch_tsc() >> 7) % 5 == 0", deed='panic("planted")'),
    ),
    "more IPIs": Bad(
        "send.c",
        "		popcorn_arch_send_ipi(remote->apic_id);\n	} else {",
        "		popcorn_arch_send_ipi(remote->apic_id);\n"
        "		if (this_cpu_read(popcorn_msg_stats[remote->id]->ipis_sent) % 6 == 5) {\n"
        "			this_cpu_inc(popcorn_msg_stats[remote->id]->ipis_sent);\n"
        "			popcorn_arch_send_ipi(remote->apic_id);\n"
        "		}\n"
        "	} else {",
    ),
}


def plant(folder: Path, kind: str, at: int, *, nr_patches: int = NR_PATCHES) -> str:
    """Write patches into a folder, the one with this number bad; returns that one's name."""
    series = load_series("6.12")
    commit = start = apply_series(find_base(series), series).head
    with scratch_index(linux_repository(), start) as index:
        for number in range(1, nr_patches + 1):
            if number == at:
                _do(index, commit, BAD[kind])
                subject = f"popcorn: {kind}"
            else:
                file = _HARMLESS[number % len(_HARMLESS)]
                _do(index, commit, Bad(f"{file}.c", appended=f"\nconst int popcorn_planted_{number} = {number};\n"))
                subject = f"popcorn: {file}: a constant"
            commit = index.commit(f"{subject}\n\nFor a test of the bisection.\n", parent=commit)
    git("format-patch", "--quiet", f"--output-directory={folder}", f"{start}..{commit}", cwd=linux_repository())
    return sorted(folder.glob("*.patch"))[at - 1].name


def _do(index: ScratchIndex, commit: str, change: Bad) -> None:
    path = f"kernel/popcorn/{change.file}"
    before = git("show", f"{commit}:{path}", cwd=index.repository).stdout
    assert before.count(change.old) == 1 or not change.old, f"{path} has changed: {change.old!r} is not there once"
    after = before.replace(change.old, change.new, 1) if change.old else before
    blob = git("hash-object", "-w", "--stdin", cwd=index.repository, input=after + change.appended).stdout.strip()
    index.git("update-index", "--cacheinfo", f"100644,{blob},{path}")
