# SPDX-License-Identifier: Apache-2.0
"""``popcorn dump``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from popcorn.cli.machine_options import kernel_ids, name_option

if TYPE_CHECKING:
    from popcorn.diagnose.dump import Target


@click.command()
@name_option
@click.argument("id")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", "run_dir", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Of which run.")
def dump(name: str, id: str, file: Path, run_dir: Path | None) -> None:
    """Write the memory of kernel ID into FILE, a core that drgn and crash read.

    With a list of kernels, or `all`, FILE is a folder that gets a core a kernel. A machine that is up stands still
    meanwhile; of one that died there is memory if it was booted by `popcorn up --keep-memory`.
    """
    from popcorn.diagnose.dump import at_rest, kept_memory, live_region, target_of, write_dump
    from popcorn.machine import registry
    from popcorn.machine.machine import Machine
    from popcorn.machine.recorded import plan_of

    record = None if run_dir is not None else registry.read_record(registry.check_name(name))
    if record is not None and record.status != "dead":
        with Machine(record) as machine:
            region = live_region(machine)
            plan = machine.plan
            targets = [target_of(machine.run_dir, plan, one, region) for one in kernel_ids(id, record.kernels)]
            shared = record.region_start, record.region_size
            with at_rest(machine) as registers:
                for target, path in _paths(targets, id, file):
                    write_dump(path, target, machine.memory, shared, registers)
                    _tell(target, path)
        return
    folder = run_dir or registry.last_run(name)
    plan = plan_of(folder)
    memory = kept_memory(folder, plan)
    try:
        for target, path in _paths(
            [target_of(folder, plan, one, None) for one in kernel_ids(id, tuple(p.id for p in plan.partitions))],
            id,
            file,
        ):
            write_dump(path, target, memory, (plan.region.start, plan.region.size), {})
            _tell(target, path)
    finally:
        memory.close()


def _paths(targets: list[Target], id: str, file: Path) -> list[tuple[Target, Path]]:
    if id.isdigit():
        return [(targets[0], file)]
    file.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [(target, file / f"kernel-{target.id}.core") for target in targets]


def _tell(target: Target, path: Path) -> None:
    from popcorn.build.debuginfo import debug_info_of
    from popcorn.diagnose.symbols import build_line

    used = path.stat().st_blocks * 512
    click.echo(f"kernel {target.id}: {path}, {used / (1 << 20):.1f} MiB")
    debug_info = debug_info_of(target.booted.key)
    if debug_info is None:
        click.echo(f"  types, for drgn and crash: `{build_line(target.booted)}`")
    else:
        click.echo(f"  drgn -c {path} -s {debug_info}")
        click.echo(f"  crash {debug_info} {path}")
