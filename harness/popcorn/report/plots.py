# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG for a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1")


def bars(by_kernel: Mapping[int, float], label: str, colour: str = COLOURS[0]) -> str:
    """A bar for each kernel; kernels without a value have none."""
    figure, axes = figure_and_axes(2.6)
    axes.bar([str(id) for id in by_kernel], list(by_kernel.values()), color=colour)
    axes.set_xlabel("kernel")
    axes.set_ylabel(label)
    _thin_out(axes, len(by_kernel))
    return as_svg(figure)


def timeline(spans: Mapping[int, Sequence[tuple[float, float]]], stages: Sequence[str]) -> str:
    """One row a kernel: its spans (begin, end), in seconds since QEMU's start, named by ``stages``."""
    figure, axes = figure_and_axes(max(1.6, 0.16 * len(spans) + 1.0))
    for row, pieces in enumerate(spans.values()):
        for (begin, end), colour in zip(pieces, COLOURS, strict=False):
            axes.barh(row, max(0.0, end - begin), left=begin, color=colour, height=0.8)
    axes.set_yticks(range(len(spans)), [str(id) for id in spans], fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel("seconds since QEMU's start")
    axes.set_ylabel("kernel")
    handles = [axes.barh(0, 0, color=colour) for colour, _ in zip(COLOURS, stages, strict=False)]
    axes.legend(handles, stages, fontsize=7, loc="upper right")
    return as_svg(figure)


def stacked(rows: Mapping[str, Sequence[float]], parts: Sequence[str], label: str) -> str:
    """A bar for each row, made of its parts; a row may have fewer parts than there are names, or one without name."""
    figure, axes = figure_and_axes(0.5 * len(rows) + 1.2)
    for row, values in enumerate(rows.values()):
        left = 0.0
        for value, colour in zip(values, COLOURS, strict=False):
            axes.barh(row, value, left=left, color=colour, height=0.6)
            left += value
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if parts:
        handles = [axes.barh(0, 0, color=colour) for colour, _ in zip(COLOURS, parts, strict=False)]
        axes.legend(handles, parts, fontsize=7, loc="best")
    return as_svg(figure)


def curves(series: Mapping[str, Mapping[int, float]], across: str, label: str) -> str:
    """A line for each series, on logarithmic axes."""
    figure, axes = figure_and_axes(3.2)
    for (name, points), colour in zip(series.items(), COLOURS, strict=False):
        axes.plot(list(points), list(points.values()), marker="o", color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(across)
    axes.set_ylabel(label)
    axes.legend(fontsize=7)
    return as_svg(figure)


def figure_and_axes(height: float) -> tuple[Any, Any]:
    """An empty figure, 7 inches wide, and its axes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "popcorn"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.add_subplot()


def _thin_out(axes: Any, count: int) -> None:
    step = max(1, count // 12)
    axes.set_xticks(range(0, count, step))


def as_svg(figure: Any) -> str:
    """A figure as an element of a page; equal figures give equal text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
