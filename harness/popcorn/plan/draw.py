# SPDX-License-Identifier: Apache-2.0
"""A picture of a plan: in the terminal, and as SVG."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn import cpulist
from popcorn.config.machine import FIRST_MIB
from popcorn.config.sizes import format_size
from popcorn.plan.model import Plan, Window

# Kernels take these colours in turn. Numbers tell them apart without colour.
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#d4a106")
_SHARED_COLOUR = "#555555"
_UNUSED_COLOUR = "#e0e0e0"

# Of the SVG, in its units: a letter is rarely wider than this at its font size.
_LEGEND_WIDTH, _LEGEND_COLUMNS, _LETTER_WIDTH, _SWATCH_WIDTH = 1000, 4, 7, 30


@dataclass(frozen=True)
class Piece:
    """A stretch of a node's memory: who owns it. An owner is a kernel's id, ``shared`` or ``unused``."""

    start: int
    end: int
    owner: str
    colour: str

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class NodePicture:
    """A node as it is drawn: its CPUs with their kernels, and its memory by address."""

    number: int
    cpus: tuple[tuple[int, str, str], ...]  # CPU, owner, colour
    memory: tuple[Piece, ...]


def node_pictures(plan: Plan) -> list[NodePicture]:
    """What there is to draw."""
    colours = {partition.id: COLOURS[index % len(COLOURS)] for index, partition in enumerate(plan.partitions)}
    kernel_of = {cpu: partition.id for partition in plan.partitions for cpu in partition.cpus}
    owned: list[tuple[Window, str, str]] = [(plan.region, "shared", _SHARED_COLOUR)]
    for partition in plan.partitions:
        owned += [(window, str(partition.id), colours[partition.id]) for window in partition.memory]
    pictures = []
    for number, node in enumerate(plan.machine.nodes):
        cpus = tuple(
            (cpu, str(kernel_of[cpu]), colours[kernel_of[cpu]]) if cpu in kernel_of else (cpu, "unused", _UNUSED_COLOUR)
            for cpu in node.cpus
        )
        pieces: list[Piece] = []
        for ram in (ram for ram in plan.machine.ram if ram.node == number):
            at = ram.start
            inside = [item for item in owned if ram.start <= item[0].start < ram.end]
            for window, owner, colour in sorted(inside, key=lambda item: item[0].start):
                if at < window.start:
                    pieces.append(Piece(at, window.start, "unused", _UNUSED_COLOUR))
                pieces.append(Piece(window.start, window.end, owner, colour))
                at = window.end
            if at < ram.end:
                pieces.append(Piece(at, ram.end, "unused", _UNUSED_COLOUR))
        pictures.append(NodePicture(number, cpus, tuple(pieces)))
    return pictures


def print_plan(plan: Plan) -> None:
    """Print the picture and the table of kernels on stdout, in colour if it is a terminal."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    width = console.width if console.is_terminal else 100
    for line in _lines(plan, min(width, 120)):
        console.print(line)
    for text in table_lines(plan):
        console.print(text, markup=False)


def _lines(plan: Plan, width: int) -> list[str]:
    """The picture as lines of rich's markup."""
    machine = plan.machine
    lines = [
        f"machine {machine.name}: {machine.nr_cpus} CPUs, {len(machine.nodes)} nodes, "
        f"{format_size(machine.memory_bytes)}; policy {plan.policy}: {len(plan.partitions)} "
        f"kernel{'s' if len(plan.partitions) > 1 else ''}",
        "",
    ]
    for picture in node_pictures(plan):
        cpus = _cpus_by_kernel(picture)
        lines.append(f"node {picture.number}  CPUs   {cpus or 'none'}")
        lines.append(f"        memory {_bar(picture.memory, width - 15)}")
    lines.append("")
    lines.append(
        f"[{_SHARED_COLOUR}]▒[/] shared by all kernels: {format_size(plan.region.size)} at {plan.region.start:#x}; "
        "░ unused; kernel:[CPUs]"
    )
    lines.append("")
    return lines


def _cpus_by_kernel(picture: NodePicture) -> str:
    """Each kernel and its CPUs: ``6:[6 8 10] 7:[7 9 11]``."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cpu, owner, colour in picture.cpus:
        groups.setdefault((owner, colour), []).append(str(cpu))
    return "  ".join(f"[bold {colour}]{owner}:\\[{' '.join(cpus)}][/]" for (owner, colour), cpus in groups.items())


def _bar(pieces: Sequence[Piece], width: int) -> str:
    """Memory as a bar: each piece at least as wide as its owner's name."""
    if not pieces:
        return "none"
    labels = ["" if piece.owner in ("shared", "unused") else piece.owner for piece in pieces]
    least = [max(1, len(label)) + 1 for label in labels]
    spare = max(0, width - sum(least))
    total = sum(piece.size for piece in pieces)
    bar = ""
    for piece, label, at_least in zip(pieces, labels, least, strict=True):
        cells = at_least - 1 + spare * piece.size // total
        fill = {"shared": "▒", "unused": "░"}.get(piece.owner, "█")
        text = label + fill * (cells - len(label))
        bar += f"[{piece.colour}]{text}[/]" + "▏"
    return bar


def table_lines(plan: Plan) -> list[str]:
    """The kernels as a plain table."""
    rows = [("KERNEL", "CPUS", "MEMORY", "NODES", "WINDOWS", "DEVICES")]
    for partition in plan.partitions:
        first, *others = partition.memory
        more = f" +{len(others)}" if others else ""
        rows.append(
            (
                f"{partition.id}{' primary' if partition.is_primary else ''}",
                cpulist.format(partition.cpus),
                format_size(partition.memory_bytes + (FIRST_MIB if first.start == FIRST_MIB else 0)),
                cpulist.format(window.node for window in partition.memory),
                f"{first}{more}",
                " ".join(partition.devices) or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@functools.cache
def _template_text() -> str:
    return (Path(__file__).parent / "plan.svg.j2").read_text(encoding="utf-8")


def to_svg(plan: Plan) -> str:
    """The picture as an SVG document."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    nodes = node_pictures(plan)
    legend = _legend(plan)
    widest = max(len(text) for _, text in legend)
    return environment.from_string(_template_text()).render(
        plan=plan,
        nodes=nodes,
        most_memory=max(sum(piece.size for piece in node.memory) for node in nodes) or 1,
        legend=legend,
        legend_columns=max(1, min(_LEGEND_COLUMNS, _LEGEND_WIDTH // (widest * _LETTER_WIDTH + _SWATCH_WIDTH))),
        legend_width=_LEGEND_WIDTH,
        format_size=format_size,
    )


def _legend(plan: Plan) -> list[tuple[str, str]]:
    """Colours and what they mean."""
    kernels = [
        (
            COLOURS[index % len(COLOURS)],
            f"kernel {one.id}{' (primary)' if one.is_primary else ''}: CPUs {cpulist.format(one.cpus)}, "
            f"{format_size(one.memory_bytes + (FIRST_MIB if one.is_primary else 0))}",
        )
        for index, one in enumerate(plan.partitions)
    ]
    return [
        *kernels,
        (_SHARED_COLOUR, f"shared by all: {format_size(plan.region.size)}"),
        (_UNUSED_COLOUR, "unused"),
    ]
