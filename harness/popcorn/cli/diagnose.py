# SPDX-License-Identifier: Apache-2.0
"""``popcorn diagnose``"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from popcorn.cli.machine_options import kernel_ids, name_option

if TYPE_CHECKING:
    from popcorn.diagnose.recorded import MachineDiagnosis
    from popcorn.diagnose.symbols import Decoder
    from popcorn.diagnose.verdict import Diagnosis


@click.command()
@name_option
@click.argument("what", required=False, metavar="[ID|RUN]")
@click.option("--lines", is_flag=True, help="Tell lines of source; builds debug information, once, if it must.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diagnose(name: str, what: str | None, lines: bool, as_json: bool) -> int:
    """Tell what became of each kernel, and why: of a machine that is up or dead, or of a recorded RUN.

    ID is a kernel of the machine --name, or a list such as 0,8-11; RUN is the folder of a run or its name. A kernel
    that is not in order gets a line with a title that is the same for the same fault, and what it printed.

    Exit status: 0 all in order, 1 a kernel is not, 3 none is at fault, but QEMU, the host or the recording failed.
    """
    from popcorn.diagnose.live import diagnose_folder
    from popcorn.diagnose.symbols import Decoder, build_line

    folder, ids = _wanted(name, what)
    found = diagnose_folder(folder)
    if ids is not None:
        known = tuple(kernel.kernel for kernel in found.kernels)
        chosen = kernel_ids(ids, known)
        found = replace(found, kernels=tuple(kernel for kernel in found.kernels if kernel.kernel in chosen))
    decoder = Decoder(found.run_dir, build=lines)
    found = replace(found, kernels=tuple(_decoded(kernel, decoder) for kernel in found.kernels))
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)
        for build in decoder.without_lines:
            click.echo(f"lines of source: `{build_line(build)}`, or --lines here")
    if found.crashed:
        return 1
    return 3 if found.infrastructure else 0


def _wanted(name: str, what: str | None) -> tuple[Path, str | None]:
    """The folder of a run, and the kernels of it that are asked for."""
    from popcorn.dirs import runs_dir
    from popcorn.machine import registry

    if what is None or what == "all" or (what[0].isdigit() and set(what) <= set("0123456789,-")):
        record = registry.read_record(registry.check_name(name))
        return Path(record.run_dir) if record is not None else registry.last_run(name), what
    if "/" not in what and (runs_dir() / what).is_dir():
        return runs_dir() / what, None
    return Path(what), None


def _decoded(kernel: Diagnosis, decoder: Decoder) -> Diagnosis:
    if kernel.in_order:
        return kernel
    return replace(kernel, excerpt=tuple(decoder.decoded(kernel.kernel, kernel.excerpt)))


def _as_json(found: MachineDiagnosis) -> dict[str, object]:
    return {
        "run_dir": str(found.run_dir),
        "infrastructure": found.infrastructure,
        "kernels": [asdict(kernel) | {"in_order": kernel.in_order} for kernel in found.kernels],
    }


def _print(found: MachineDiagnosis) -> None:
    from popcorn import cpulist

    if found.infrastructure:
        click.echo(f"the machine: {found.infrastructure}")
    fine = [kernel.kernel for kernel in found.kernels if kernel.kind == "fine" and not kernel.earlier]
    for kernel in found.kernels:
        if kernel.kernel not in fine:
            _print_kernel(kernel)
    if fine:
        click.echo(f"kernel{'s' if len(fine) > 1 else ''} {cpulist.format(fine)}: fine")
    click.echo(f"recorded in {found.run_dir}")


def _print_kernel(kernel: Diagnosis) -> None:
    from popcorn.diagnose.excerpt import essence
    from popcorn.diagnose.kinds import Kind

    title = kernel.title if kernel.title.startswith(kernel.kind) else f"{kernel.kind}: {kernel.title}"
    click.echo(f"kernel {kernel.kernel}: {title}")
    if not kernel.in_order:
        # Last words are few; a report is long.
        last_words = kernel.kind in (Kind.HUNG, Kind.SILENT, Kind.NEVER_STARTED)
        for line in kernel.excerpt if last_words else essence(kernel.excerpt):
            click.echo(f"    {line}")
    for also in kernel.also:
        click.echo(f"  also: {also}")
    for number, life in enumerate(kernel.earlier, 1):
        click.echo(f"  life {number}: {life.title}")
