# SPDX-License-Identifier: Apache-2.0
"""NAS benchmarks inside kernels: run, kept as they answered, and judged by their own verification."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from popcorn.files import write_atomic
from popcorn.guest.finished import Finished
from popcorn.guest.run import run_in_several
from popcorn.machine.machine import Machine
from popcorn.run.results import Measurement

BENCHMARKS = ("is", "cg", "ft")
CLASSES = ("S", "W", "A", "B")
# What published ones call their threads or processes.
_WORKERS = ("Total threads", "Total processes", "Threads")


@dataclass(frozen=True)
class NpbAnswer:
    """How a benchmark went in one kernel."""

    kernel: int
    benchmark: str
    size: str
    verified: bool
    threads: int | None = None
    """Or processes, of the one with MPI."""
    time_s: float | None = None
    mop_s: float | None = None
    complaint: str = ""
    """Why there is no time."""


def parse(kernel: int, benchmark: str, size: str, done: Finished) -> NpbAnswer:
    """Read a benchmark's answer. Whatever is not a whole, verified one counts as not verified."""
    try:
        fields: dict[str, Any] = _published(done.stdout_text) or json.loads(done.stdout_text)
        named = (str(fields["benchmark"]), str(fields["class"]))
        workers = fields["ranks"] if "ranks" in fields else fields["threads"]
        threads = int(workers) if workers is not None else None
        time_s, mop_s = float(fields["time_s"]), float(fields["mop_s"])
        said = fields["verified"] is True
    except (ValueError, KeyError, TypeError):
        reason = done.stderr_text.strip() or done.stdout_text.strip() or "it said nothing"
        complaint = f"exit status {done.status}: {reason}"
        return NpbAnswer(kernel, benchmark, size, False, complaint=complaint)
    complaint = ""
    if named != (benchmark, size):
        complaint = f"expected {benchmark} {size}, found {' '.join(named)}"
    elif done.status or not said:
        complaint = f"verification failed (exit status {done.status})"
    return NpbAnswer(kernel, benchmark, size, not complaint, threads, time_s, mop_s, complaint)


def _published(text: str) -> dict[str, Any] | None:
    """The answer of a published benchmark in the form of ours, or None; some do not tell their threads."""
    head = re.search(r"^ *(\w+) Benchmark Completed", text, re.MULTILINE)
    if head is None:
        return None
    told = dict(re.findall(r"^ ([A-Z][\w/ ]*?) *= *(\S+) *$", text[head.start() :], re.MULTILINE))
    return {
        "benchmark": head[1].lower(),
        "class": told["Class"],
        "threads": next((told[name] for name in _WORKERS if name in told), None),
        "time_s": told["Time in seconds"],
        "mop_s": told["Mop/s total"],
        "verified": told["Verification"] == "SUCCESSFUL",
    }


def run_npb(
    machine: Machine, benchmark: str, size: str, kernels: Sequence[int], *, timeout_s: float = 300.0
) -> Iterator[tuple[NpbAnswer, list[Measurement]]]:
    """Run a benchmark in several kernels side by side; raw answers are kept in the run's folder.

    Errors as for `run_in_several`.
    """
    for kernel, done in run_in_several(machine.connections, ["npb", benchmark, size], kernels, timeout_s=timeout_s):
        raw = f"npb/{benchmark}.{size}.{kernel}.txt"
        head = f"$ npb {benchmark} {size}\nexit status {done.status}\n".encode()
        write_atomic(machine.run_dir / raw, head + done.stdout + done.stderr)
        answer = parse(kernel, benchmark, size, done)
        yield answer, measurements(answer, raw)


def measurements(answer: NpbAnswer, raw: str) -> list[Measurement]:
    """What of an answer is written down: a time only if it verified."""
    metric = f"npb.{answer.benchmark}.{answer.size}"
    if answer.verified:
        return [
            Measurement(f"{metric}.time", answer.time_s, "s", answer.kernel, "ok", raw),
            Measurement(f"{metric}.rate", answer.mop_s, "Mop/s", answer.kernel, "ok", raw),
        ]
    if answer.time_s is not None:
        return [Measurement(f"{metric}.time", None, "s", answer.kernel, "failed", raw)]
    return [Measurement(f"{metric}.time", None, "s", answer.kernel, "void", raw)]
