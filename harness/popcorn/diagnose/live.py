# SPDX-License-Identifier: Apache-2.0
"""A machine's kernels, diagnosed while somebody can still ask it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from popcorn.diagnose.kinds import Kind
from popcorn.diagnose.recorded import MachineDiagnosis, diagnose_run
from popcorn.diagnose.registers import parse_registers
from popcorn.diagnose.verdict import Diagnosis
from popcorn.errors import HostError, MachineLostError
from popcorn.machine import registry
from popcorn.machine.control import ask
from popcorn.machine.machine import Machine, attach


def diagnose_folder(folder: Path) -> MachineDiagnosis:
    """Diagnose the kernels of the machine that is recorded in a folder: up, dead, or long gone.

    Raises:
        UserError: nothing was recorded there.
    """
    for record in registry.records():
        if record.status != "dead" and Path(record.run_dir).resolve() == folder.resolve():
            with attach(record.name) as machine:
                try:
                    # What was printed last is written down before it is asked.
                    ask(record, "status")
                except MachineLostError:
                    break
                region = machine.region() if record.region_size else None
                found = diagnose_run(folder, now_s=record.clock.now(), region=region)
                return replace(found, kernels=tuple(_with_place(kernel, machine) for kernel in found.kernels))
    return diagnose_run(folder)


def _with_place(kernel: Diagnosis, machine: Machine) -> Diagnosis:
    """Where the CPUs of a kernel are that gets nowhere, while somebody can look."""
    if kernel.kind not in (Kind.HUNG, Kind.SILENT, Kind.NEVER_STARTED):
        return kernel
    try:
        with machine.qmp() as qmp:
            registers = parse_registers(qmp.monitor("info registers -a"))
    except HostError:
        return kernel
    cpus = next((one.cpus for one in machine.plan.partitions if one.id == kernel.kernel), ())
    places = tuple(
        f"CPU {cpu} is at [<{registers[cpu]['rip']:016x}>]" for cpu in cpus if "rip" in registers.get(cpu, {})
    )
    return replace(kernel, excerpt=(*kernel.excerpt, *places))
