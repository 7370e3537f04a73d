# SPDX-License-Identifier: Apache-2.0
"""How many requests were served within which time: the paper's figure 15."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from popcorn.experiment.record import WorkloadFacts
from popcorn.experiment.workloads.web import PERCENTILE
from popcorn.report.lines import DASHES, Drawing
from popcorn.report.plots import COLOURS, figure_and_axes
from popcorn.report.points import RunData

Curve = Mapping[int, Sequence[float]]
"""Percentage of the requests to the time within which it was served, ms, of each trial."""


def curves(data: RunData, facts: WorkloadFacts) -> dict[str, Curve]:
    """What each system gave for a workload, by its title; empty of one that has no response times."""
    found: dict[str, dict[int, list[float]]] = {}
    for row, measurements in data.trials:
        if row.workload != facts.name or row.status != "ok":
            continue
        for one in measurements:
            if one.metric.startswith(PERCENTILE) and one.value is not None:
                percent = int(one.metric.removeprefix(PERCENTILE))
                found.setdefault(row.system, {}).setdefault(percent, []).append(one.value)
    return {title: found[system] for system, title in data.record.systems.items() if system in found}


def draw_distribution(lines: Mapping[str, Curve]) -> Drawing:
    """A figure with a line for each system: means over the trials, and between which times these lay."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure, axes = figure_and_axes(3.8)
    for number, (title, curve) in enumerate(lines.items()):
        percents = sorted(curve)
        colour = COLOURS[number % len(COLOURS)]
        means = [statistics.fmean(curve[percent]) for percent in percents]
        axes.plot(means, percents, color=colour, linestyle=DASHES[number % len(DASHES)], label=title)
        low, high = ([choose(curve[percent]) for percent in percents] for choose in (min, max))
        axes.fill_betweenx(percents, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=10)
    # Written out: most figures have not even one whole power of ten.
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter(plain)
    axes.set_xlabel("response time, ms")
    axes.set_ylabel("requests served, %")
    axes.set_ylim(0, 100)
    axes.grid(True, color="0.85", linewidth=0.6)
    axes.legend(fontsize=8)
    return Drawing(figure)
