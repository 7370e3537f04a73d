# SPDX-License-Identifier: Apache-2.0
"""``popcorn bench messages``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.bench_options import bench_options, print_goals, print_json

if TYPE_CHECKING:
    from popcorn.run.results import Measurement


@click.command()
@bench_options(repeat=10)
def messages(name: str, repeat: int, series: str, accel: Any, as_json: bool) -> None:
    """Messages between kernels, against function calls and bare copies.

    Everything is measured in one boot of one machine, by turns, and told as the
    median of all rounds (least-most). Compare only within one call. What else the
    host does is felt: where it cannot be left alone, call this by `chrt --rr 1`.
    """
    from popcorn import hostpackages, progress
    from popcorn.config import load_machine
    from popcorn.machine import registry
    from popcorn.machine.assemble import kernel_files
    from popcorn.plan import make_plan
    from popcorn.report.page import write_report
    from popcorn.run import msgbench
    from popcorn.run.recorded import recorded_run

    registry.require_free(name)
    plan = make_plan(load_machine(msgbench.MACHINE), msgbench.POLICY)
    hostpackages.ensure("up")
    kernel, files = kernel_files(plan, series=series)
    found: list[Measurement] = []
    with recorded_run(plan, kernel, files, name=name, purpose="bench messages", accel=accel) as run:
        with progress.step(f"measuring messages, {repeat} rounds") as step:
            for number, measurements in enumerate(msgbench.measure_messages(run.machine, repeat), start=1):
                run.results.add(*measurements)
                found += measurements
                step.update(f"{number}/{repeat}")
        run_dir = run.machine.run_dir
    report = write_report(run_dir)
    if as_json:
        print_json(found, report)
        return
    _print(found)
    click.echo(f"report: {report}")


def _print(found: Sequence[Measurement]) -> None:
    from popcorn.cli.table import print_table
    from popcorn.config.sizes import format_size
    from popcorn.run.goals import samples
    from popcorn.run.msgbench import SIZES, STAGES
    from popcorn.run.spread import spread

    def told(metric: str) -> str:
        values = samples(found, metric)
        return str(spread(values)) if values else "-"

    kinds = ("", "_idle")
    trips = [
        ["round trip", *(told(f"msg.round_trip{kind}") for kind in kinds)],
        *([f"  {stage.replace('_', '-')}", *(told(f"msg.stage{kind}.{stage}") for kind in kinds)] for stage in STAGES),
        ["function call", *(told(f"msg.call{kind}") for kind in kinds)],
        ["ratio", *(told(f"msg.round_trip{kind}/call{kind}") for kind in kinds)],
    ]
    print_table(["MICROSECONDS", "BACK TO BACK", "OTHER SIDE ASLEEP"], trips)
    click.echo()
    columns = ("rate", "stream", "copy", "stream/copy", "ipis")
    throughput = [[format_size(size), *(told(f"msg.{column}.{size}") for column in columns)] for size in SIZES]
    print_table(["PAYLOAD", "MESSAGES/S", "MB/S", "COPY MB/S", "RATIO", "IPIS/MESSAGE"], throughput)
    click.echo()
    for metric, text in (
        ("msg.fanout", "fan-out to all other kernels, deliveries a second"),
        ("msg.all_to_all", "all kernels to all others at once, messages a second"),
    ):
        click.echo(f"{text}: {told(metric)}")
    click.echo()
    print_goals(found)
