# SPDX-License-Identifier: Apache-2.0
"""``popcorn up``"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.machine_options import name_option
from popcorn.cli.plan_options import chosen_plan, plan_options
from popcorn.errors import UserError

if TYPE_CHECKING:
    from popcorn.machine.arrival import KernelBoot
    from popcorn.machine.boot import BootFiles
    from popcorn.machine.machine import Machine
    from popcorn.plan import Plan

_PLAN_OPTIONS = ("machine", "policy", "memory", "sizes", "devices", "append", "plan_file")
_KERNEL_OPTIONS = ("series", "flavour", "source", "secondary_series", "secondary_flavour", "vmlinux", "initrd")


@click.command()
@name_option
@plan_options
@click.option("--series", default="6.12", show_default=True, help="Which kernel series.")
@click.option("--flavour", default="default", show_default=True, help="default or debug.")
@click.option(
    "--source", type=click.Path(path_type=Path), metavar="TREE|TARBALL", help="Kernel source of --series, instead."
)
@click.option("--secondary-series", metavar="SERIES", help="What the secondaries run, instead.")
@click.option("--secondary-flavour", metavar="FLAVOUR", help="Likewise.  [default: --flavour]")
@click.option("--vmlinux", type=click.Path(path_type=Path), help="What the secondaries run, instead.")
@click.option("--initrd", type=click.Path(path_type=Path), help="What the secondaries unpack, instead.")
@click.option("--from", "snapshot", metavar="NAME", help="Go on from a snapshot that was saved under this name.")
@click.option("--cold", is_flag=True, help="Boot, even if there is a snapshot of this machine when it had booted.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True)
@click.option("--no-wait", is_flag=True, help="Return when QEMU runs, not when the kernels are up.")
@click.option("--keep-failed", is_flag=True, help="Leave the machine up when a kernel does not come up.")
@click.option("--keep-memory", is_flag=True, help="Keep the memory for `popcorn dump` when QEMU ends by itself.")
@click.option(
    "--stall", "stall_s", type=click.FloatRange(min=1), help="Give up when nothing moves for so many seconds."
)
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where to record.")
@click.option("--qemu-option", "qemu_options", multiple=True, help="A further word for QEMU's command line.")
@click.option("--json", "as_json", is_flag=True, help="Print the boot times as JSON.")
def up(
    name: str,
    series: str,
    flavour: str,
    source: Path | None,
    secondary_series: str | None,
    secondary_flavour: str | None,
    vmlinux: Path | None,
    initrd: Path | None,
    snapshot: str | None,
    cold: bool,
    accel: Any,
    no_wait: bool,
    keep_failed: bool,
    keep_memory: bool,
    stall_s: float | None,
    run_dir: Path | None,
    qemu_options: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Boot a machine with its kernels.

    It stays up until `popcorn down`. When this command is interrupted before
    all kernels are up, the machine ends.

    A machine that was booted before goes on from where it had just come up:
    --cold boots it again. What --from names goes on where it was saved; the
    options that say what to boot need not be given then, and are checked if
    they are.
    """
    from popcorn.cli.host import require_host
    from popcorn.machine import registry
    from popcorn.machine.arrival import DEFAULT_STALL_S
    from popcorn.machine.boot import up as boot

    registry.require_free(name)
    if snapshot is not None:
        _refuse_with_snapshot(
            {
                "--cold": cold,
                "--no-wait": no_wait,
                "--qemu-option": bool(qemu_options),
                "--keep-failed": keep_failed,
                "--accel kvm": accel == "kvm",
            }
        )
    says_plan, says_kernels = snapshot is None or _typed(_PLAN_OPTIONS), snapshot is None or _typed(_KERNEL_OPTIONS)
    plan = chosen_plan(**options) if says_plan else None
    require_host("up")
    from popcorn.machine.limits import require_room_to_record, warn_of_scarce_memory
    from popcorn.snapshot import bringup, inputs

    require_room_to_record(run_dir)
    files = None
    if plan is not None:
        warn_of_scarce_memory(plan, flavour)
    if says_kernels:
        plan, files = _files(
            plan or bringup.plan_in(snapshot or ""),
            series=series,
            flavour=flavour,
            source=source,
            secondary_series=secondary_series,
            secondary_flavour=secondary_flavour,
            vmlinux=vmlinux,
            initrd=initrd,
        )
    common: dict[str, Any] = {
        "name": name,
        "run_dir": run_dir,
        "keep_memory": keep_memory,
        "stall_s": stall_s or DEFAULT_STALL_S,
    }
    began = time.monotonic()
    if snapshot is not None:
        wanted = inputs.wanted(plan if says_plan else None, files)
        running = bringup.from_snapshot(snapshot, wanted=wanted, **common)
    else:
        assert plan is not None
        assert files is not None
        common |= {"accel": accel, "keep_failed": keep_failed, "qemu_options": qemu_options}
        if cold or no_wait:
            running = boot(plan, files, wait=not no_wait, **common)
        else:
            running = bringup.up(plan, files, **common)
    took_s = time.monotonic() - began
    with running as machine:
        times = machine.boot_times() if machine.record.region_size and not no_wait else []
        if as_json:
            click.echo(_as_json(machine, times, took_s))
        else:
            _print(machine, times, took_s)


def _refuse_with_snapshot(given: Mapping[str, bool]) -> None:
    for option, is_given in given.items():
        if is_given:
            raise UserError(
                f"--from cannot be combined with {option}",
                hint="leave one of them out: a machine that goes on from a snapshot is not booted",
            )


def _typed(options: Sequence[str]) -> bool:
    """Whether one of these was typed."""
    sources = map(click.get_current_context().get_parameter_source, options)
    return click.core.ParameterSource.COMMANDLINE in sources


def _files(
    plan: Plan,
    *,
    series: str,
    flavour: str,
    source: Path | None,
    secondary_series: str | None,
    secondary_flavour: str | None,
    vmlinux: Path | None,
    initrd: Path | None,
) -> tuple[Plan, BootFiles]:
    from popcorn.machine.assemble import Choice, for_flavour, kernel_files

    theirs = None
    if secondary_series not in (None, series) or secondary_flavour not in (None, flavour):
        other = secondary_series or series
        theirs = Choice(other, secondary_flavour or flavour, source if other == series else None)
    plan = for_flavour(plan, flavour, theirs.flavour if theirs else None)
    _, files = kernel_files(
        plan,
        series=series,
        flavour=flavour,
        source=source,
        secondaries=theirs,
        vmlinux=vmlinux,
        secondary_initrd=initrd,
    )
    return plan, files


def _as_json(machine: Machine, times: list[KernelBoot], took_s: float) -> str:
    record = machine.record
    releases = _releases(machine)
    return json.dumps(
        {
            "name": record.name,
            "machine": record.machine,
            "policy": record.policy,
            "accel": record.accel,
            "release": releases.get(machine.plan.primary.id, ""),
            "releases": releases,
            "run_dir": record.run_dir,
            "restored": {"from": record.restored_from, "saved": record.saved, "took_s": round(took_s, 3)}
            if record.saved
            else None,
            "kernels": [asdict(boot) for boot in times],
        },
        indent=2,
    )


def _print(machine: Machine, times: list[KernelBoot], took_s: float) -> None:
    from popcorn.snapshot.restore import AUTOMATIC

    record = machine.record
    releases = " and ".join(dict.fromkeys(_releases(machine).values()))
    click.echo(
        f"{record.name}: {len(record.kernels)} kernel(s), {releases}, on machine {record.machine} by {record.accel}; "
        f"recorded in {record.run_dir}"
    )
    ready = [boot.user_s for boot in times if boot.user_s is not None]
    booted = f"first kernel up after {min(ready):.1f} s, last after {max(ready):.1f} s" if ready else ""
    if record.saved:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.saved))
        what = "when it had booted" if record.restored_from == AUTOMATIC else f"as {record.restored_from!r}"
        click.echo(f"not booted: it goes on from where it was saved {what}, {when}; that took {took_s:.1f} s")
        booted = f"its boot then: {booted}" if booted else ""
    if booted:
        click.echo(booted)


def _releases(machine: Machine) -> dict[int, str]:
    from popcorn.machine.booted import booted_kernels

    return {id: kernel.release for id, kernel in booted_kernels(machine.run_dir).items()}
