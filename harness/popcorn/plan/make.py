# SPDX-License-Identifier: Apache-2.0
"""From a machine and a policy to a plan (paper, sections 3.1 and 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from popcorn.config.machine import Machine
from popcorn.errors import UserError
from popcorn.plan.cmdline import cmdline, plan_words
from popcorn.plan.memory import carve_region, windows_of_kernels
from popcorn.plan.model import Partition, Plan
from popcorn.plan.policy import cpu_groups
from popcorn.plan.validate import validate


def make_plan(
    machine: Machine,
    policy: str,
    *,
    memory: str = "numa",
    sizes: Mapping[int, int] | None = None,
    devices: Mapping[str, int] | None = None,
    extra_cmdline: str = "",
) -> Plan:
    """Cut a machine into partitions, one kernel each.

    Args:
        policy: ``smp``, ``per-core``, ``per-node``, ``per-socket``, or CPU lists such as ``0-5;6,8,10``.
        memory: ``numa`` (memory close to a kernel's CPUs) or ``flat`` (in order of addresses).
        sizes: bytes of memory for some kernels, by id; the others divide the rest.
        devices: which kernel owns a device, by the device's name; the primary owns those not named.
        extra_cmdline: appended to the command line of every kernel.

    Raises:
        UserError: no such plan is possible; the message says why.
    """
    if memory not in ("numa", "flat"):
        raise UserError(f"unknown way to divide memory {memory!r}", hint="it is numa or flat")
    groups = cpu_groups(machine, policy)
    windows = windows_of_kernels(machine, groups, memory, sizes or {})
    region, windows[0] = carve_region(machine, windows[0])
    owned = _devices_of_kernels(machine, devices or {}, [cpus[0] for cpus in groups])

    partitions = []
    for cpus in groups:
        kernel = cpus[0]
        own_devices = owned.get(kernel, ())
        words = plan_words(machine, cpus, windows[kernel], own_devices, region, smp=policy == "smp")
        partitions.append(
            Partition(
                id=kernel,
                cpus=cpus,
                apic_ids=tuple(machine.apic_id(cpu) for cpu in cpus),
                memory=windows[kernel],
                devices=own_devices,
                cmdline=cmdline(words, windows[kernel], own_devices, primary=kernel == 0, extra=extra_cmdline),
            )
        )
    plan = Plan(machine=machine, policy=policy, region=region, partitions=tuple(partitions))
    validate(plan)
    return plan


def _devices_of_kernels(
    machine: Machine, owners: Mapping[str, int], kernels: Sequence[int]
) -> dict[int, tuple[str, ...]]:
    names = [device.name for device in machine.devices]
    for name, kernel in owners.items():
        if kernel not in kernels:
            raise UserError(
                f"device {name!r} is given to kernel {kernel}, which is not in the plan",
                hint=f"kernels are named by their smallest CPU: {', '.join(map(str, kernels))}",
            )
        if name not in names:
            raise UserError(
                f"machine {machine.name} has no device {name!r}",
                hint=f"its devices are {', '.join(names)}" if names else "it has no devices that can be assigned",
            )
    owned: dict[int, tuple[str, ...]] = {}
    for name in names:
        kernel = owners.get(name, 0)
        owned[kernel] = (*owned.get(kernel, ()), name)
    return owned
