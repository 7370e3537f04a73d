# SPDX-License-Identifier: Apache-2.0
"""Telling the kernel's failures from those of the host, and giving each the title it goes by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from popcorn.bisect.evidence import Stage
from popcorn.build.kbuild import KernelBuildError
from popcorn.diagnose.kinds import Kind
from popcorn.diagnose.recorded import MachineDiagnosis, diagnose_run
from popcorn.errors import HostError, PopcornError, UserError
from popcorn.machine.registry import PLAN_FILE

_COMPILER_LOST = re.compile(r"internal compiler error|[Kk]illed|[Cc]annot (?:fork|allocate memory)|Segmentation fault")
_HOST_ERRORS = re.compile(r"\bpopcorn\.errors\.(?:HostError|MachineLostError|DiskFullError)\b")
_EXCEPTION = re.compile(r"(?:[\w.]*\.)?(\w+(?:Error|Exception|Failed|Exit|Timeout\w*))\b")


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    result: Literal["passed", "failed", "lost"]
    stage: Stage = Stage.TEST
    title: str = ""
    value: float | None = None


def build_failure(error: PopcornError) -> Outcome:
    """What a kernel that could not be built tells: the compiler's first complaint, without the line it moves with."""
    if isinstance(error, KernelBuildError):
        if error.first is None or _COMPILER_LOST.search(str(error.first)):
            return Outcome("lost", Stage.BUILD, _first_line(error))
        where = f"{error.first.file}: " if error.first.file else ""
        return Outcome("failed", Stage.BUILD, f"does not build: {where}{error.first.said}")
    if isinstance(error, UserError):
        return Outcome("failed", Stage.BUILD, _first_line(error))
    return Outcome("lost", Stage.BUILD, _first_line(error))


def machines_below(folder: Path) -> list[MachineDiagnosis]:
    """The diagnosis of each machine that was recorded below a folder."""
    return [diagnose_run(plan.parent) for plan in sorted(folder.rglob(PLAN_FILE))]


def failure(machines: Sequence[MachineDiagnosis], stage: Stage, title: str, *, by_host: bool) -> Outcome:
    """What a run that did not pass tells.

    A kernel that crashed is the first to be believed, then what is known of the host.

    Args:
        title: what it goes by if no kernel crashed.
        by_host: whether the harness itself says that the host or QEMU failed.
    """
    crashed = [kernel for machine in machines for kernel in machine.crashed]
    if crashed:
        return Outcome("failed", stage, crashed[0].title)
    lost = next((machine.infrastructure for machine in machines if machine.infrastructure), "")
    # A test that ran out of time on a host that had none for the kernel says nothing of the kernel.
    slow = (kernel.title for machine in machines for kernel in machine.kernels if kernel.kind is Kind.SLOW)
    lost = lost or next(slow, "")
    if lost or by_host:
        return Outcome("lost", stage, lost or title)
    return Outcome("failed", stage, title)


def failed_start(error: PopcornError, machines: Sequence[MachineDiagnosis]) -> Outcome:
    """What a machine that did not come up tells."""
    return failure(machines, Stage.BOOT, f"did not boot: {_first_line(error)}", by_host=isinstance(error, HostError))


@dataclass(frozen=True)
class SuiteResult:
    """What pytest wrote of a run."""

    nr_tests: int
    nr_skipped: int
    failed: tuple[str, ...]
    """``name: exception`` of tests that failed or broke."""
    reached: bool
    """Whether one of those got past its preparation."""
    by_host: bool
    skipped_because: str = ""


def read_junit(path: Path) -> SuiteResult:
    """Read pytest's JUnit report."""
    failed: list[str] = []
    reached = by_host = False
    skipped = total = 0
    because = ""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        total += 1
        for verdict in case:
            if verdict.tag == "skipped":
                skipped += 1
                because = because or verdict.get("message", "")
            elif verdict.tag in ("failure", "error"):
                message = verdict.get("message", "")
                exception = _EXCEPTION.search(message)
                failed.append(f"{case.get('name')}: {exception[1] if exception else 'failed'}")
                reached |= verdict.tag == "failure"
                by_host |= bool(_HOST_ERRORS.search(message))
    return SuiteResult(total, skipped, tuple(failed), reached, by_host, because)


def _first_line(error: PopcornError) -> str:
    return error.message.partition("\n")[0]
