# SPDX-License-Identifier: Apache-2.0
"""Figures in the paper's form: logarithmic axes, a line a system, means with their standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popcorn.experiment.estimate import Estimate
from popcorn.report.plots import COLOURS, as_svg, figure_and_axes

# Told apart without colours, too.
_MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))

# How far beside their mean samples are drawn, in powers of two: those of each line in a column of their own.
_BESIDE, _COLUMN = 0.08, 0.05


@dataclass(frozen=True)
class Line:
    """What one system gave, by the x axis."""

    title: str
    points: Mapping[int, Estimate]


@dataclass(frozen=True)
class Drawing:
    """A figure that can be written in several forms."""

    figure: Any

    @property
    def svg(self) -> str:
        """As an element of a page."""
        return as_svg(self.figure)

    def write(self, stem: Path) -> None:
        """As STEM.svg and STEM.pdf."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.figure.savefig(stem.with_suffix(".svg"), format="svg", metadata={"Date": None})
        self.figure.savefig(stem.with_suffix(".pdf"), format="pdf", metadata={"CreationDate": None})


def draw(lines: Sequence[Line], across: str, label: str, *, host_cores: int | None = None) -> Drawing:
    """A figure with a line for each system.

    Args:
        across: what the x axis is.
        host_cores: beyond so many cores the host's are shared, which is shaded; None where x is something else.
    """
    figure, axes = figure_and_axes(3.8)
    for number, line in enumerate(lines):
        places = sorted(line.points)
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": DASHES[number % len(DASHES)],
        }
        means = [line.points[x].mean for x in places]
        # On a logarithmic axis an error bar cannot reach zero.
        below = [min(line.points[x].std, line.points[x].mean * 0.99) for x in places]
        above = [line.points[x].std for x in places]
        axes.errorbar(places, means, yerr=[below, above], capsize=4, label=line.title, **style)
        for x in places:
            samples = line.points[x].samples
            beside = [x * 2 ** (_BESIDE + _COLUMN * number)] * len(samples)
            axes.plot(beside, samples, linestyle="", marker=".", color=style["color"], alpha=0.6, markersize=4)
    every_x = sorted({x for line in lines for x in line.points})
    values = [value for line in lines for one in line.points.values() for value in one.samples]
    _logarithmic(axes, every_x, values)
    if host_cores is not None and every_x[-1] > host_cores:
        begin = host_cores * 2**0.5 if host_cores in every_x else host_cores
        axes.axvspan(
            begin, axes.get_xlim()[1], color="0.93", zorder=0, label=f"more than the host's {host_cores} cores"
        )
    axes.set_xlabel(across)
    axes.set_ylabel(label)
    axes.grid(True, color="0.85", linewidth=0.6)
    handles, titles = axes.get_legend_handles_labels()
    order = sorted(range(len(titles)), key=lambda index: titles[index] not in {line.title for line in lines})
    axes.legend([handles[index] for index in order], [titles[index] for index in order], fontsize=8)
    return Drawing(figure)


def _logarithmic(axes: Any, every_x: Sequence[int], values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(every_x, [str(x) for x in every_x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(every_x[0] / 2**0.4, every_x[-1] * 2**0.4)
    axes.set_yscale("log", base=2)
    # Whole powers of two around everything, so that the axis has two marks at least.
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    axes.set_ylim(2.0**low, 2.0 ** max(high, low + 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}" if value < 1000 else f"{value:.0f}"))
