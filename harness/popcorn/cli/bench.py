# SPDX-License-Identifier: Apache-2.0
"""``popcorn bench``"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.bench_messages import messages
from popcorn.cli.bench_network import network

if TYPE_CHECKING:
    from popcorn.run.bootbench import Boot


@click.group()
def bench() -> None:
    """Measure."""


bench.add_command(messages)
bench.add_command(network)


@bench.command()
@click.option("--name", default="bench", show_default=True, metavar="NAME", help="The machines' name.")
@click.option("--machine", default="paper", show_default=True, metavar="M", help="paper, small, or a TOML file.")
@click.option("--policy", default="per-core", show_default=True, metavar="P", help="What to compare with SMP Linux.")
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="Boots of each.")
@click.option(
    "--series", multiple=True, default=["6.12"], show_default=True, help="Which kernel series; several: by turns."
)
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def boot(name: str, machine: str, policy: str, repeat: int, series: tuple[str, ...], accel: Any, as_json: bool) -> None:
    """Boot SMP Linux and many kernels on the same machine, by turns.

    WALL is from the order to boot until every userspace was ready, CPU what QEMU
    took from the host until then. Compare only within one call.
    """
    from popcorn.cli.host import require_host
    from popcorn.config import load_machine
    from popcorn.machine import registry
    from popcorn.report.page import write_report
    from popcorn.run.bootbench import measure_boots, record_comparison

    registry.require_free(name)
    described = load_machine(machine)
    require_host("up")
    boots = list(measure_boots(described, policy, repeat, name=name, accel=accel, series=list(dict.fromkeys(series))))
    last = [one for one in boots if one.policy == policy][-1]
    record_comparison(last.run_dir, boots, policy)
    path = write_report(last.run_dir)
    if as_json:
        rows = [{**asdict(one), "run_dir": str(one.run_dir)} for one in boots]
        click.echo(json.dumps({"boots": rows, "report": str(path)}, indent=2))
        return
    _print(boots, policy)
    click.echo(f"report: {path}")


def _print(boots: list[Boot], policy: str) -> None:
    from popcorn.cli.table import print_table
    from popcorn.run.bootbench import by_series

    rows = [[one.series, one.policy, f"{one.wall_s:.2f} s", f"{one.cpu_s:.2f} s"] for one in boots]
    print_table(["SERIES", "POLICY", "WALL", "CPU"], rows, frozenset({"WALL", "CPU"}))
    for series, own in by_series(boots).items():
        click.echo(f"Linux {series}:")
        _print_series(own, policy)


def _print_series(boots: list[Boot], policy: str) -> None:
    from popcorn.run.bootbench import ratios
    from popcorn.run.measure import memory_of_secondaries, values
    from popcorn.run.spread import spread

    walls, cpus = ratios(boots, policy)
    click.echo(f"{policy} / smp: wall {spread(walls)}, CPU {spread(cpus)}")
    last = [one for one in boots if one.policy == policy][-1]
    for metric, text in (("boot.wall", "time"), ("boot.cpu", "CPU time")):
        launched = {id: value for id, value in values(last.measurements, metric).items() if id != 0}
        if len(launched) > 1:
            ids = sorted(launched)
            early, late = ids[min(1, len(ids) - 2)], ids[-1]
            click.echo(
                f"{text} of a launched kernel: {spread(list(launched.values()))} s; "
                f"kernel {late} / kernel {early}: {launched[late] / launched[early]:.2f}"
            )
    if memory := memory_of_secondaries(last.measurements):
        click.echo(f"host memory of an idle secondary beyond its page array: {spread(list(memory.values()))} MiB")
