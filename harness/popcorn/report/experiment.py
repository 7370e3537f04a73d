# SPDX-License-Identifier: Apache-2.0
"""The report of one or more runs of experiments: one page that needs nothing else, and its figures as files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from popcorn.config.sizes import format_size
from popcorn.experiment.estimate import Estimate, Ratio, ratio
from popcorn.experiment.record import WorkloadFacts
from popcorn.experiment.timing import as_time
from popcorn.experiment.verdict import Verdict
from popcorn.files import write_atomic
from popcorn.plan.draw import to_svg
from popcorn.report.distribution import curves, draw_distribution
from popcorn.report.lines import Drawing, Line, draw
from popcorn.report.page import REPORT_FILE
from popcorn.report.points import RunData, counted_table, ratio_table, read_run, relation, summary_table
from popcorn.run.manifest import Manifest, read_manifest
from popcorn.run.spread import figure

FIGURES = "figures"
_NAMED = 20
_POINTS = (
    "Means with their standard deviation; the dots beside them are the samples. Both axes are logarithmic, to base 2."
)
_DISTRIBUTION = (
    "Means over the trials; the shades reach from the shortest to the longest. The time axis is logarithmic."
)


@dataclass(frozen=True)
class Figure:
    """A figure on the page."""

    title: str
    stem: str
    drawing: Drawing
    note: str
    """How to read it."""


@dataclass(frozen=True)
class BootShown:
    """One of the boots of a state of a system, for what was booted."""

    system: str
    manifest: Manifest
    plan_svg: Markup


@dataclass(frozen=True)
class Section:
    """A run on the page."""

    data: RunData
    figures: Sequence[Figure]
    verdicts: Sequence[Verdict]
    boots: Sequence[BootShown]
    warnings: Sequence[str]


def write_experiment_report(run_dirs: Sequence[Path], compare: Path | None = None) -> Path:
    """Write the page and the figures of runs into the first one's folder.

    Args:
        compare: a run that each of them is compared with.

    Raises:
        UserError: one is no experiment's run, or has no trials.
    """
    runs = [read_run(run_dir) for run_dir in run_dirs]
    other = read_run(compare) if compare is not None else None
    target = run_dirs[0]
    # The first run's figures are called the same whatever stands beside it.
    sections = [_section(data, f"{number}-" if number > 1 else "") for number, data in enumerate(runs, start=1)]
    for section in sections:
        for one in section.figures:
            one.drawing.write(target / FIGURES / one.stem)
    path = target / REPORT_FILE
    write_atomic(path, render(sections, other))
    return path


def render(sections: Sequence[Section], other: RunData | None = None) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["size"] = format_size
    environment.filters["figure"] = figure
    environment.filters["as_time"] = as_time
    environment.filters["when"] = lambda at: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    template = (Path(__file__).parent / "experiment.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        sections=sections,
        summary_table=summary_table,
        ratio_table=ratio_table,
        counted_table=counted_table,
        named=_NAMED,
        other=other,
        compared={id(section): compared(section.data, other) for section in sections} if other else {},
        key_of=id,
    )


def _section(data: RunData, prefix: str) -> Section:
    return Section(data, figures(data, prefix), data.verdicts(), _boots(data), warnings(data))


def figures(data: RunData, prefix: str = "") -> list[Figure]:
    """One for each group of workloads, or one for all where the description says so.

    Args:
        prefix: of their files' names.
    """
    groups = list(dict.fromkeys(one.group for one in data.record.workloads))
    together = data.experiment.one_figure and len(groups) > 1
    found = []
    for number, group in enumerate(groups[:1] if together else groups):
        members = [one for one in data.record.workloads if together or one.group == group]
        by_size = all(one.parameter is not None for one in members)
        if served := curves(data, members[0]):
            found.append(Figure(group, f"{prefix}figure-{number + 1}", draw_distribution(served), _DISTRIBUTION))
            continue
        lines = _lines(data, members, by_size=by_size, together=together)
        if lines:
            drawn = draw(
                lines,
                "payload, bytes" if by_size else "cores",
                f"{members[0].metric.replace('_', ' ')}, {members[0].unit}",
                host_cores=None if by_size else data.record.host.cores,
            )
            title = data.experiment.title if together else group
            found.append(Figure(title, f"{prefix}figure-{number + 1}", drawn, _POINTS))
    return found


def _lines(data: RunData, members: Sequence[WorkloadFacts], *, by_size: bool, together: bool) -> list[Line]:
    lines: dict[str, dict[int, Estimate]] = {}
    for (system, workload, cores), one in data.in_order(data.estimates):
        facts = data.workload(workload)
        if facts not in members:
            continue
        words = [facts.group] if together else []
        if len(data.record.systems) > 1 or not words:
            words.insert(0, data.record.systems[system])
        x = facts.parameter if by_size and facts.parameter is not None else cores
        lines.setdefault(", ".join(words), {})[x] = one
    return [Line(title, points) for title, points in lines.items()]


def warnings(data: RunData) -> list[str]:
    """What a reader must know before believing the figures."""
    host, found = data.record.host, []
    if data.record.accel == "tcg":
        found.append(
            "Emulated without KVM: times compare only within this run, and the ratio between systems may be another "
            "on real hardware. Of what is counted, messages, faults and bytes are not distorted."
        )
    if changed := _unlike_the_paper(data):
        found.append(f"Other than in the paper: {changed}. The claims are about that of the paper.")
    most = max(row.cores for row, _ in data.trials)
    if most > host.cores:
        found.append(
            f"Up to {most} cores were emulated on a host with {host.cores}: where more are used than there are, they "
            "take turns, and no time can get shorter by more of them."
        )
    loads = data.counted("host.load")
    beyond = [load for key, load in loads.items() if load > max(host.cores, key[2]) + 1.0]
    if beyond:
        found.append(f"The host was overcommitted: its load was up to {max(beyond):.1f}, more than the workloads make.")
    if data.missing:
        found.append(f"The run was stopped: {data.missing} of {data.record.trials} trials were not taken.")
    return found


def _unlike_the_paper(data: RunData) -> str:
    """What the command line changed of a description of a figure of the paper."""
    record, described = data.record, data.experiment
    if not described.paper:
        return ""
    classes = {str(one["class"]) for one in described.workloads if "class" in one}
    size = str(record.wanted.get("size") or "")
    changes = [
        f"class {size} in place of {', '.join(sorted(classes))}" if size and classes and classes != {size} else "",
        f"{_listed(record.cores)} cores in place of {_listed(described.cores)}"
        if set(record.cores) != set(described.cores)
        else "",
        f"{record.iterations} iterations in place of {described.iterations}"
        if record.iterations != described.iterations
        else "",
    ]
    return "; ".join(filter(None, changes))


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))


def compared(data: RunData, other: RunData) -> list[tuple[str, str, int, Ratio, str]]:
    """Each point of a run against the same of another: workload, system, cores, ratio, what it says."""
    return [
        (key[1], key[0], key[2], found, relation(found, data.workload(key[1])))
        for key, values in data.in_order(data.samples)
        if key in other.samples
        for found in [ratio(values, other.samples[key])]
    ]


def _boots(data: RunData) -> list[BootShown]:
    """The first boot of each system."""
    shown: dict[str, BootShown] = {}
    for row, _ in data.trials:
        if row.system not in shown:
            manifest = read_manifest((data.run_dir / row.manifest).parent)
            document = to_svg(manifest.plan)
            shown[row.system] = BootShown(row.system, manifest, Markup(document[document.index("<svg") :]))
    return list(shown.values())
