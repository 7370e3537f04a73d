# SPDX-License-Identifier: Apache-2.0
"""Why a test failed: the kernel, the test itself, or the host that carries both; and what to show of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from popcorn.errors import HostError, PopcornError

if TYPE_CHECKING:
    from popcorn.diagnose.recorded import MachineDiagnosis

_CONSOLE_LINES = 15
_CONSOLES = 4
_KEPT = ("console", "events.jsonl", "plan.json", "supervisor.log", "supervisor.json")


@dataclass(frozen=True)
class Evidence:
    """What a failed run of a test tells."""

    lost: bool
    """Whether host, QEMU or recording failed, so that it says nothing of the kernel."""
    title: str
    """What it goes by: the same for the same fault."""
    told: str = ""
    """Diagnosis and ends of consoles, for a report."""


def diagnosed(run_dirs: Sequence[Path]) -> list[MachineDiagnosis]:
    """The diagnosis of each of these machines of which anything was recorded."""
    from popcorn.diagnose.live import diagnose_folder

    found = []
    for run_dir in run_dirs:
        try:
            found.append(diagnose_folder(run_dir))
        except PopcornError:
            continue
    return found


def evidence(error: BaseException, machines: Sequence[MachineDiagnosis]) -> Evidence:
    """Who is to blame for a test that ended with an error.

    A kernel that crashed is believed first, then what is known of the host. That the host was too slow for a kernel
    is an excuse for one that was waited for in vain, and none for a wrong answer.
    """
    from popcorn.bisect.classify import build_failure
    from popcorn.build.kbuild import KernelBuildError
    from popcorn.diagnose.kinds import Kind

    told = "\n\n".join(map(_told, machines))
    crashed = [kernel for machine in machines for kernel in machine.crashed]
    if crashed:
        return Evidence(False, crashed[0].title, told)
    if isinstance(error, KernelBuildError):
        found = build_failure(error)
        return Evidence(found.result == "lost", found.title)
    lost = next((machine.infrastructure for machine in machines if machine.infrastructure), "")
    if not lost and isinstance(error, PopcornError):
        slow = (kernel.title for machine in machines for kernel in machine.kernels if kernel.kind is Kind.SLOW)
        lost = next(slow, "")
    by_host = next((cause for cause in _causes(error) if isinstance(cause, HostError)), None)
    if not lost and by_host is not None:
        lost = _first_line(by_host)
    return Evidence(bool(lost), lost or f"{type(error).__name__}: {_first_line(error)}".removesuffix(": "), told)


def keep_logs(run_dirs: Sequence[Path], into: Path) -> None:
    """Copy what was recorded of machines, without their memory, for who looks later; of a test's first failure."""
    for number, run_dir in enumerate(run_dirs, 1):
        target = into / f"machine-{number}"
        if target.exists():
            continue
        target.mkdir(parents=True)
        for name in _KEPT:
            source = run_dir / name
            if source.is_dir():
                shutil.copytree(source, target / name)
            elif source.is_file():
                shutil.copy2(source, target / name)


def _told(machine: MachineDiagnosis) -> str:
    from popcorn.diagnose.excerpt import essence
    from popcorn.diagnose.kinds import Kind
    from popcorn.machine.recorded import read_log, recorded_logs

    lines = [f"machine: {machine.infrastructure}"] if machine.infrastructure else []
    for kernel in machine.kernels:
        if kernel.kind is not Kind.FINE:
            title = kernel.title if kernel.title.startswith(kernel.kind) else f"{kernel.kind}: {kernel.title}"
            lines.append(f"kernel {kernel.kernel}: {title}")
            lines += [f"    {line}" for line in essence(kernel.excerpt)]
    if not lines:
        lines = ["all kernels are in order"]
    names = recorded_logs(machine.run_dir)
    # Without a culprit the primary, through which all commands go, is the best guess.
    for name in ([str(kernel.kernel) for kernel in machine.crashed] or names[:1])[:_CONSOLES]:
        if name in names:
            lines += [f"console of kernel {name}, its end:"]
            lines += [f"    {entry.text}" for entry in list(read_log(machine.run_dir, name))[-_CONSOLE_LINES:]]
    return "\n".join([*lines, f"recorded in {machine.run_dir}"])


def _causes(error: BaseException) -> list[BaseException]:
    """An error, and those that it was raised from."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__
    return found


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
