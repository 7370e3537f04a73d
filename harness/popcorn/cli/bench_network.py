# SPDX-License-Identifier: Apache-2.0
"""``popcorn bench network``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.bench_options import bench_options, tell

if TYPE_CHECKING:
    from popcorn.run.results import Measurement


@click.command()
@bench_options(repeat=6)
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(min=1), help="Of one measurement.")
def network(name: str, repeat: int, seconds: int, series: str, accel: Any, as_json: bool) -> None:
    """TCP between two kernels, against loopback and two virtual machines.

    All kernels have one CPU. Everything is up at the same time and measured by
    turns with iperf3, and told as the median of all rounds (least-most). Compare
    only within one call. What else the host does is felt: where it cannot be left
    alone, call this by `chrt --rr 1`.
    """
    from popcorn import progress
    from popcorn.cli.host import require_host
    from popcorn.machine import registry
    from popcorn.report.page import write_report
    from popcorn.run import netbench

    for needed in netbench.machine_names(name):
        registry.require_free(needed)
    require_host("up")
    found: list[Measurement] = []
    with netbench.network_paths(name, series=series, accel=accel) as (run, paths):
        with progress.step(f"measuring the network, {repeat} rounds") as step:
            for number, measurements in enumerate(netbench.measure_network(paths, repeat, seconds), start=1):
                run.results.add(*measurements)
                found += measurements
                step.update(f"{number}/{repeat}")
        run_dir = run.machine.run_dir
    tell(found, write_report(run_dir), as_json=as_json)
