# SPDX-License-Identifier: Apache-2.0
"""``popcorn up``"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popcorn.cli.machine_options import name_option
from popcorn.cli.plan_options import chosen_plan, plan_options

if TYPE_CHECKING:
    from popcorn.machine.arrival import KernelBoot
    from popcorn.machine.boot import BootFiles
    from popcorn.machine.machine import Machine


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
    """
    from popcorn.cli.host import require_host
    from popcorn.machine import registry
    from popcorn.machine.arrival import DEFAULT_STALL_S
    from popcorn.machine.boot import up as boot

    registry.require_free(name)
    plan = chosen_plan(**options)
    require_host("up")
    from popcorn.machine.assemble import Choice, for_flavour, kernel_files
    from popcorn.machine.limits import require_room_to_record, warn_of_scarce_memory

    require_room_to_record(run_dir)
    warn_of_scarce_memory(plan, flavour)
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
    with boot(
        plan,
        files,
        name=name,
        accel=accel,
        run_dir=run_dir,
        wait=not no_wait,
        keep_failed=keep_failed,
        stall_s=stall_s or DEFAULT_STALL_S,
        qemu_options=qemu_options,
        keep_memory=keep_memory,
    ) as machine:
        times = machine.boot_times() if machine.record.region_size and not no_wait else []
        if as_json:
            click.echo(_as_json(machine, files, times))
        else:
            _print(machine, files, times)


def _as_json(machine: Machine, files: BootFiles, times: list[KernelBoot]) -> str:
    record = machine.record
    return json.dumps(
        {
            "name": record.name,
            "machine": record.machine,
            "policy": record.policy,
            "accel": record.accel,
            "release": files.kernels[machine.plan.primary.id].release,
            "releases": {id: kernel.release for id, kernel in files.kernels.items()},
            "run_dir": record.run_dir,
            "kernels": [asdict(boot) for boot in times],
        },
        indent=2,
    )


def _print(machine: Machine, files: BootFiles, times: list[KernelBoot]) -> None:
    record = machine.record
    releases = " and ".join(dict.fromkeys(kernel.release for kernel in files.kernels.values()))
    click.echo(
        f"{record.name}: {len(record.kernels)} kernel(s), {releases}, on machine {record.machine} by {record.accel}; "
        f"recorded in {record.run_dir}"
    )
    ready = [boot.user_s for boot in times if boot.user_s is not None]
    if ready:
        click.echo(f"first kernel up after {min(ready):.1f} s, last after {max(ready):.1f} s")
