# SPDX-License-Identifier: Apache-2.0
"""``popcorn demo``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from popcorn.machine.boot import AccelChoice
    from popcorn.plan import Plan
    from popcorn.run.npb import NpbAnswer
    from popcorn.run.recorded import RecordedRun


@click.command()
@click.option("--name", default="demo", show_default=True, metavar="NAME", help="The machine's name.")
@click.option("--machine", default="paper", show_default=True, metavar="M", help="paper, small, or a TOML file.")
@click.option("--policy", default="per-core", show_default=True, metavar="P", help="How to cut it into kernels.")
@click.option("--benchmark", type=click.Choice(["is", "cg", "ft"]), default="is", show_default=True)
@click.option("--class", "size", type=click.Choice(["S", "W", "A"]), default="S", show_default=True, help="NPB class.")
@click.option("--series", default="6.12", show_default=True, help="Which kernel series.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True)
def demo(name: str, machine: str, policy: str, benchmark: str, size: str, series: str, accel: str) -> None:
    """48 kernels from source, a benchmark on each, a report.

    Builds what is missing, boots the machine, runs the benchmark in all kernels,
    prints a table, writes a report and ends the machine. Exits 1 when a kernel
    failed the benchmark's own verification.

    BOOT is from the start of a kernel's CPU to its userspace; kernels boot side by
    side and wait for the host. CPU is what the host spent on it until all were up.
    """
    from popcorn.cli.host import require_host
    from popcorn.config import load_machine
    from popcorn.errors import CheckFailed
    from popcorn.machine import registry
    from popcorn.plan import make_plan

    registry.require_free(name)
    plan = make_plan(load_machine(machine), policy)
    require_host("demo")
    from popcorn.machine.assemble import kernel_files
    from popcorn.machine.limits import require_room_to_record, warn_of_scarce_memory
    from popcorn.report.page import write_report
    from popcorn.run.recorded import recorded_run

    require_room_to_record()
    warn_of_scarce_memory(plan)
    kernel, files = kernel_files(plan, series=series)
    with recorded_run(plan, kernel, files, name=name, purpose="demo", accel=_accel(accel)) as run:
        answers = _benchmark(run, plan, benchmark, size)
        run_dir = run.machine.run_dir
        _print(plan, run, answers, kernel.release)
    click.echo(f"report: {write_report(run_dir)}")
    failed = [answer for answer in answers if not answer.verified]
    if failed:
        first = failed[0]
        raise CheckFailed(
            f"{len(failed)} of {len(answers)} kernels failed {benchmark.upper()} class {size}; "
            f"kernel {first.kernel}: {first.complaint}",
            hint=f"all answers are in {run_dir}/npb, the consoles in {run_dir}/console",
        )


def _accel(text: str) -> AccelChoice:
    return "kvm" if text == "kvm" else "tcg" if text == "tcg" else "auto"


def _benchmark(run: RecordedRun, plan: Plan, benchmark: str, size: str) -> list[NpbAnswer]:
    from popcorn import progress
    from popcorn.run.npb import run_npb

    ids = [partition.id for partition in plan.partitions]
    answers = []
    with progress.step(f"running {benchmark.upper()} class {size} in {len(ids)} kernels") as step:
        for answer, measurements in run_npb(run.machine, benchmark, size, ids):
            run.results.add(*measurements)
            answers.append(answer)
            step.update(f"{len(answers)}/{len(ids)}")
    return answers


def _print(plan: Plan, run: RecordedRun, answers: list[NpbAnswer], release: str) -> None:
    from popcorn import cpulist
    from popcorn.cli.table import print_table
    from popcorn.run.measure import memory_of_secondaries, values
    from popcorn.run.spread import spread

    walls, cpus = values(run.boot, "boot.wall"), values(run.boot, "boot.cpu")
    rows = [
        [
            str(answer.kernel),
            cpulist.format(plan.partition(answer.kernel).cpus),
            f"{plan.partition(answer.kernel).memory_bytes >> 20} MiB",
            f"{walls[answer.kernel]:.2f} s" if answer.kernel in walls else "-",
            f"{cpus[answer.kernel]:.2f} s" if answer.kernel in cpus else "-",
            "-" if answer.time_s is None else f"{answer.time_s:.3f} s",
            "yes" if answer.verified else "NO",
        ]
        for answer in answers
    ]
    header = [
        "KERNEL",
        "CPUS",
        "MEMORY",
        "BOOT",
        "CPU",
        f"{answers[0].benchmark.upper()}.{answers[0].size}",
        "VERIFIED",
    ]
    print_table(header, rows, frozenset(header[2:6]) | {"KERNEL"})
    record = run.machine.record
    wall = next(one.value for one in run.boot if one.metric == "boot.wall" and one.kernel is None)
    click.echo(
        f"{sum(answer.verified for answer in answers)} of {len(answers)} kernels verified; "
        f"{release}, {record.accel}, all up after {wall or 0:.1f} s"
    )
    if memory := memory_of_secondaries(run.boot):
        click.echo(f"host memory of an idle secondary beyond its page array: {spread(list(memory.values()))} MiB")
