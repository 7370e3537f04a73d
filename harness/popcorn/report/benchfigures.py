# SPDX-License-Identifier: Apache-2.0
"""Plots of what `popcorn bench messages` and `popcorn bench network` measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from popcorn.report import plots
from popcorn.run.goals import samples
from popcorn.run.msgbench import SIZES, STAGES
from popcorn.run.results import Measurement


def bench_figures(results: Sequence[Measurement]) -> list[tuple[str, Markup]]:
    """Title and SVG of each; none for what was not measured."""
    return [*_latency(results), *_throughput(results), *_network(results)]


def _median(results: Sequence[Measurement], metric: str) -> float | None:
    values = samples(results, metric)
    return statistics.median(values) if values else None


def _latency(results: Sequence[Measurement]) -> list[tuple[str, Markup]]:
    rows: dict[str, list[float]] = {}
    for kind, text in (("", "back to back"), ("_idle", "other side asleep")):
        stages = [_median(results, f"msg.stage{kind}.{stage}") for stage in STAGES]
        call = _median(results, f"msg.call{kind}")
        if call is not None and None not in stages:
            rows[f"message, {text}"] = [stage for stage in stages if stage is not None]
            # In a colour of its own, behind all stages.
            rows[f"function call, {text}"] = [0.0] * len(STAGES) + [call]
    if not rows:
        return []
    parts = [*(stage.replace("_", "-") for stage in STAGES), "call, whole"]
    return [("Round trips by stage", Markup(plots.stacked(rows, parts, "µs, medians")))]


def _throughput(results: Sequence[Measurement]) -> list[tuple[str, Markup]]:
    series = {
        text: {size: value for size in SIZES if (value := _median(results, f"msg.{name}.{size}")) is not None}
        for name, text in (("stream", "messages"), ("copy", "copy without protocol"))
    }
    if not all(series.values()):
        return []
    return [("Throughput by size", Markup(plots.curves(series, "payload, bytes", "MB/s")))]


def _network(results: Sequence[Measurement]) -> list[tuple[str, Markup]]:
    texts = {
        "pcn": "two kernels, pcn0",
        "lo": "one kernel, lo",
        "virtio": "two virtual machines, virtio-net",
    }
    rows = {text: [value] for path, text in texts.items() if (value := _median(results, f"net.{path}")) is not None}
    return [("TCP", Markup(plots.stacked(rows, [], "Gbit/s, medians")))] if rows else []
