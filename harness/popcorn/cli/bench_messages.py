# SPDX-License-Identifier: Apache-2.0
"""``popcorn bench messages``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.bench_options import bench_options, tell

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
    from popcorn import progress
    from popcorn.cli.host import require_host
    from popcorn.config import load_machine
    from popcorn.machine import registry
    from popcorn.machine.assemble import kernel_files
    from popcorn.plan import make_plan
    from popcorn.report.page import write_report
    from popcorn.run import msgbench
    from popcorn.run.recorded import recorded_run

    registry.require_free(name)
    plan = make_plan(load_machine(msgbench.MACHINE), msgbench.POLICY)
    require_host("up")
    kernel, files = kernel_files(plan, series=series)
    found: list[Measurement] = []
    with recorded_run(plan, kernel, files, name=name, purpose="bench messages", accel=accel) as run:
        with progress.step(f"measuring messages, {repeat} rounds") as step:
            for number, measurements in enumerate(msgbench.measure_messages(run.machine, repeat), start=1):
                run.results.add(*measurements)
                found += measurements
                step.update(f"{number}/{repeat}")
        run_dir = run.machine.run_dir
    tell(found, write_report(run_dir), as_json=as_json)
