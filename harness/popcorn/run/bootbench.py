# SPDX-License-Identifier: Apache-2.0
"""How long many kernels take to boot, against one SMP Linux on the same CPUs; both with the same kernel and QEMU.

Several series of kernels can be measured by turns, so that they can be compared with each other as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn.clock import uptime_s
from popcorn.config.machine import Machine
from popcorn.machine.assemble import kernel_files
from popcorn.machine.boot import AccelChoice
from popcorn.plan import Plan, make_plan
from popcorn.run.recorded import recorded_run
from popcorn.run.results import Measurement, Results

SMP = "smp"


@dataclass(frozen=True)
class Boot:
    """One boot: seconds from the order to boot until all userspaces were ready, and QEMU's CPU time for it."""

    policy: str
    wall_s: float
    cpu_s: float
    run_dir: Path
    measurements: tuple[Measurement, ...]
    series: str = "6.12"


def order(policy: str, repeat: int) -> list[str]:
    """Which policy to boot when. The first of a pair changes, so that drift of the host hits both alike."""
    pairs = ([SMP, policy] if number % 2 == 0 else [policy, SMP] for number in range(repeat))
    return [one for pair in pairs for one in pair]


def compared_plans(machine: Machine, policy: str) -> dict[str, Plan]:
    """What is booted, by policy: alike but for the policy.

    Raises:
        UserError: there is no such plan.
    """
    return {one: make_plan(machine, one) for one in (SMP, policy)}


def measure_boots(
    machine: Machine,
    policy: str,
    repeat: int,
    *,
    name: str,
    accel: AccelChoice = "auto",
    series: Sequence[str] = ("6.12",),
) -> Iterator[Boot]:
    """Boot SMP Linux and a policy by turns, each with the kernels of some series.

    What is missing is built, and KVM is tried, before the first clock starts. Errors as for `recorded_run`.
    """
    plans = compared_plans(machine, policy)
    files = {(one, each): kernel_files(plan, series=each) for each in series for one, plan in plans.items()}
    if accel == "auto":
        from popcorn.machine import kvm

        usable = all(kvm.probe(files[SMP, each][1].kernel).usable for each in series)
        accel = "kvm" if usable else "tcg"
    for one, each in ((one, each) for one in order(policy, repeat) for each in series):
        kernel, boot_files = files[one, each]
        ordered_s = uptime_s()
        with recorded_run(plans[one], kernel, boot_files, name=name, purpose="bench boot", accel=accel) as run:
            of_all = {found.metric: found.value for found in run.boot if found.kernel is None}
            begun = run.machine.record.started_uptime - ordered_s
            yield Boot(
                one,
                begun + (of_all["boot.wall"] or 0.0),
                of_all["boot.cpu"] or 0.0,
                run.machine.run_dir,
                tuple(run.boot),
                each,
            )


def ratios(boots: Sequence[Boot], policy: str) -> tuple[list[float], list[float]]:
    """Wall and CPU time of the policy as multiples of SMP Linux's, pair by pair; the boots are of one series."""
    smp = [boot for boot in boots if boot.policy == SMP]
    own = [boot for boot in boots if boot.policy == policy]
    pairs = list(zip(own, smp, strict=False))
    return [one.wall_s / other.wall_s for one, other in pairs], [one.cpu_s / other.cpu_s for one, other in pairs]


def record_comparison(run_dir: Path, boots: Sequence[Boot], policy: str) -> None:
    """Write the comparison into the results of one of its runs, for the report."""
    found = by_series(boots)
    with Results(run_dir, "bench boot: comparison") as results:
        for series, own in found.items():
            # The metrics of a single series are called as they always were.
            bench = "bench" if len(found) == 1 else f"bench.{series}"
            for boot in own:
                results.add(
                    Measurement(f"{bench}.{boot.policy}.wall", boot.wall_s, "s", raw=str(boot.run_dir)),
                    Measurement(f"{bench}.{boot.policy}.cpu", boot.cpu_s, "s", raw=str(boot.run_dir)),
                )
            for wall, cpu in zip(*ratios(own, policy), strict=True):
                results.add(
                    Measurement(f"{bench}.{policy}/smp.wall", wall, "x"),
                    Measurement(f"{bench}.{policy}/smp.cpu", cpu, "x"),
                )


def by_series(boots: Sequence[Boot]) -> dict[str, list[Boot]]:
    """The boots of each series, in the order in which they were made."""
    return {series: [one for one in boots if one.series == series] for series in dict.fromkeys(b.series for b in boots)}
