# SPDX-License-Identifier: Apache-2.0
"""``report.html`` of a run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from popcorn import cpulist
from popcorn.config.sizes import format_size
from popcorn.files import write_atomic
from popcorn.plan.draw import to_svg
from popcorn.report import plots
from popcorn.report.benchfigures import bench_figures
from popcorn.report.benchtables import bench_tables
from popcorn.run.manifest import Manifest, read_manifest
from popcorn.run.measure import memory_of_secondaries, values
from popcorn.run.results import Measurement, read_results
from popcorn.run.spread import spread

REPORT_FILE = "report.html"
_STAGES = ("to first C code", "to init", "to userspace ready")
_OF_THE_MACHINE = {
    "boot.wall": "from QEMU's start until all kernels were up",
    "boot.cpu": "CPU time that it took of the host until then",
}
_OF_A_KERNEL = {
    "boot.wall": "time from the start of its CPU to its userspace",
    "boot.cpu": "CPU time that it took of the host until all were up",
}


@dataclass(frozen=True)
class Comparison:
    """What the last launched kernel cost, as a multiple of what an early one did."""

    metric: str
    early: int
    late: int
    ratio: float
    median: float
    spread: tuple[float, float]


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark gave: a row for each kernel that it was tried in."""

    name: str
    rows: tuple[Row, ...]

    @property
    def verified(self) -> int:
        """Kernels whose result passed the benchmark's own verification."""
        return sum(row.time.status == "ok" for row in self.rows)


@dataclass(frozen=True)
class Row:
    """One kernel's time, and its rate if there is a time."""

    kernel: int
    time: Measurement
    rate: Measurement | None


@dataclass(frozen=True)
class Finding:
    """A metric of the whole machine: median (least-most), unless there is no value."""

    metric: str
    status: str
    unit: str
    value: str
    times: int


def write_report(run_dir: Path) -> Path:
    """Write the page of a run into its folder.

    Raises:
        UserError: the folder holds no run with a manifest.
    """
    path = run_dir / REPORT_FILE
    write_atomic(path, render(read_manifest(run_dir), read_results(run_dir), run_dir.name))
    return path


def render(manifest: Manifest, results: Sequence[Measurement], title: str) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["size"] = format_size
    environment.filters["cpus"] = cpulist.format
    environment.filters["when"] = lambda at: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    template = (Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        manifest=manifest,
        kernels=[f"{kernel.release}, {kernel.flavour}" for kernel in manifest.distinct_kernels()],
        ingredients=manifest.distinct_kernels(),
        plan_svg=Markup(_svg_element(to_svg(manifest.plan))),
        bench_tables=bench_tables(results),
        machine_rows=summed_up(results),
        compared=[found for metric in ("boot.wall", "boot.cpu") if (found := compare(manifest, results, metric))],
        figures=[*bench_figures(results), *_figures(results)],
        memory=_memory(results),
        missing=[one for one in results if one.status != "ok"],
        benchmarks=benchmarks(results),
        of_the_machine=_OF_THE_MACHINE,
        of_a_kernel=_OF_A_KERNEL,
    )


def summed_up(results: Sequence[Measurement]) -> list[Finding]:
    """What was found of the whole machine, a metric a line however often it was measured."""
    rows: dict[tuple[str, str], list[Measurement]] = {}
    for one in results:
        if one.kernel is None:
            rows.setdefault((one.metric, one.status), []).append(one)
    return [
        Finding(metric, status, found[0].unit, str(spread(values)) if values else "", len(found))
        for (metric, status), found in rows.items()
        for values in [[one.value for one in found if one.value is not None]]
    ]


def compare(manifest: Manifest, results: Sequence[Measurement], metric: str) -> Comparison | None:
    """The last secondary against the second one (the first pays for cold caches); None with too few kernels."""
    found = values(results, metric)
    launched = [partition.id for partition in manifest.plan.secondaries if found.get(partition.id)]
    if len(launched) < 2:
        return None
    early, late = launched[min(1, len(launched) - 2)], launched[-1]
    costs = [found[id] for id in launched]
    return Comparison(
        metric, early, late, found[late] / found[early], statistics.median(costs), (min(costs), max(costs))
    )


def benchmarks(results: Sequence[Measurement]) -> list[Benchmark]:
    """The NAS benchmarks of a run, by name."""
    rates = {(one.metric, one.kernel): one for one in results if one.metric.endswith(".rate")}
    rows: dict[str, list[Row]] = {}
    for one in results:
        if one.metric.startswith("npb.") and one.metric.endswith(".time") and one.kernel is not None:
            run = one.metric.removesuffix(".time")
            rows.setdefault(run, []).append(Row(one.kernel, one, rates.get((f"{run}.rate", one.kernel))))
    return [Benchmark(_benchmark_name(run), tuple(found)) for run, found in sorted(rows.items())]


def _benchmark_name(metric: str) -> str:
    _, name, size = metric.split(".")[:3]
    return f"{name.upper()} class {size}"


def _figures(results: Sequence[Measurement]) -> list[tuple[str, Markup]]:
    figures = []
    early, running = values(results, "boot.early"), values(results, "boot.running")
    started, user = values(results, "boot.started"), values(results, "boot.user")
    spans = {
        id: [
            (at, at + early[id]),
            (at + early[id], at + early[id] + running[id]),
            (at + early[id] + running[id], user[id]),
        ]
        for id, at in started.items()
        if id in early and id in running and id in user
    }
    if spans:
        figures.append(("Boot, stage by stage", Markup(plots.timeline(spans, _STAGES))))
    for metric, text, label in (
        ("boot.wall", "Time from the start of a kernel's CPU to its userspace", "s"),
        ("boot.cpu", "CPU time that the host spent on a kernel's CPUs until all were up", "s"),
    ):
        found = values(results, metric)
        if found:
            figures.append((text, Markup(plots.bars(found, label))))
    beyond = memory_of_secondaries(results)
    if beyond:
        figures.append(("Host memory of an idle secondary beyond its page array", Markup(plots.bars(beyond, "MiB"))))
    for metric in sorted({one.metric for one in results if one.metric.startswith("npb.") and one.status == "ok"}):
        if metric.endswith(".time"):
            figures.append((f"{_benchmark_name(metric)}: time", Markup(plots.bars(values(results, metric), "s"))))
    return figures


def _memory(results: Sequence[Measurement]) -> tuple[float, float, float] | None:
    """Median, least and most MiB over the secondaries."""
    found = list(memory_of_secondaries(results).values())
    return (statistics.median(found), min(found), max(found)) if found else None


def _svg_element(document: str) -> str:
    return document[document.index("<svg") :]
