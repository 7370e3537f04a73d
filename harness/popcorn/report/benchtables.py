# SPDX-License-Identifier: Apache-2.0
"""Tables of what `popcorn bench messages` and `popcorn bench network` measured, for terminals and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from popcorn.config.sizes import format_size
from popcorn.run.goals import judge, samples
from popcorn.run.msgbench import SIZES, STAGES
from popcorn.run.netbench import PATHS
from popcorn.run.results import Measurement
from popcorn.run.spread import spread

NO_VALUE = "-"
_TCP = {
    "pcn": "between two kernels, pcn0",
    "lo": "inside one kernel, lo",
    "virtio": "between two virtual machines, virtio-net over a socket",
}


@dataclass(frozen=True)
class Table:
    """Text by row and column; figures are medians (least-most) of all rounds."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def bench_tables(found: Sequence[Measurement]) -> list[Table]:
    """The tables of what was tried, the goals last."""
    tried = {one.metric.partition(".")[0] for one in found}
    tables = []
    if "msg" in tried:
        tables += [_latency(found), _throughput(found), _many(found)]
    if "net" in tried:
        tables.append(_network(found))
    return [*tables, _goals(found)] if tables else []


def _told(found: Sequence[Measurement], metric: str, unit: float = 1) -> str:
    values = [value / unit for value in samples(found, metric)]
    return str(spread(values)) if values else NO_VALUE


def _latency(found: Sequence[Measurement]) -> Table:
    def row(text: str, metric: str) -> tuple[str, ...]:
        return (text, *(_told(found, metric.format(kind)) for kind in ("", "_idle")))

    return Table(
        ("microseconds", "back to back", "other side asleep"),
        (
            row("round trip", "msg.round_trip{}"),
            *(row(f"- {stage.replace('_', '-')}", f"msg.stage{{}}.{stage}") for stage in STAGES),
            row("function call", "msg.call{}"),
            row("ratio", "msg.round_trip{0}/call{0}"),
        ),
    )


def _throughput(found: Sequence[Measurement]) -> Table:
    rows = (
        (
            format_size(size),
            _told(found, f"msg.rate.{size}", 1000),
            *(_told(found, f"msg.{name}.{size}") for name in ("stream", "copy", "stream/copy", "ipis")),
        )
        for size in SIZES
    )
    return Table(("payload", "1000 messages/s", "MB/s", "copy MB/s", "ratio", "IPIs/message"), tuple(rows))


def _many(found: Sequence[Measurement]) -> Table:
    return Table(
        ("many kernels", "1000 messages/s"),
        (
            ("one to all others, by multicast", _told(found, "msg.fanout", 1000)),
            ("all to all others at once", _told(found, "msg.all_to_all", 1000)),
        ),
    )


def _network(found: Sequence[Measurement]) -> Table:
    rows = (
        (_TCP[path], _told(found, f"net.{path}"), "" if path == "pcn" else _told(found, f"net.pcn/{path}"))
        for path in PATHS
    )
    return Table(("TCP", "Gbit/s", "pcn0 is so many times as fast"), tuple(rows))


def _goals(found: Sequence[Measurement]) -> Table:
    rows = (
        (
            one.goal.text,
            NO_VALUE if one.measured is None else str(one.measured),
            str(one.goal),
            "yes" if one.met else "NO",
        )
        for one in judge(found)
    )
    return Table(("goal", "measured", "bound", "met"), tuple(rows))
