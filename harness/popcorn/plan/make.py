# SPDX-License-Identifier: Apache-2.0
"""From a machine and a policy to a plan (paper, sections 3.1 and 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from popcorn.config.machine import Machine
from popcorn.errors import UserError
from popcorn.plan.cmdline import cmdline, plan_words
from popcorn.plan.memory import SECTION, carve_region, hotplug_memory, windows_of_kernels
from popcorn.plan.model import Hotplug, Partition, Plan
from popcorn.plan.policy import HOTPLUG, SMP, cpu_groups
from popcorn.plan.validate import validate
from popcorn.plan.windows import by_address, free_blocks


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
        policy: ``smp``, ``hotplug``, ``per-core``, ``per-node``, ``per-socket``, or CPU lists such as ``0-5;6,8,10``.
        memory: ``numa`` (memory close to a kernel's CPUs) or ``flat`` (in order of addresses).
        sizes: bytes of memory for some kernels, by id; the others divide the rest.
        devices: which kernel owns a device, by the device's name; the primary owns those not named.
        extra_cmdline: appended to the command line of every kernel.

    Raises:
        UserError: no such plan is possible; the message says why.
    """
    if memory not in ("numa", "flat"):
        raise UserError(f"unknown way to divide memory {memory!r}", hint="it is numa or flat")
    if policy == HOTPLUG:
        return hotplug_plan(machine, sizes=sizes or {}, devices=devices or {}, extra_cmdline=extra_cmdline)
    groups = cpu_groups(machine, policy)
    windows = windows_of_kernels(machine, groups, memory, sizes or {})
    region, windows[0] = carve_region(machine, windows[0])
    owned = devices_of_kernels(machine, devices or {}, [cpus[0] for cpus in groups])

    partitions = []
    for cpus in groups:
        kernel = cpus[0]
        own_devices = owned.get(kernel, ())
        words = plan_words(machine, cpus, windows[kernel], own_devices, region, smp=policy == SMP)
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


def hotplug_plan(machine: Machine, *, sizes: Mapping[int, int], devices: Mapping[str, int], extra_cmdline: str) -> Plan:
    """One kernel that owns everything, and boots so that it can give nearly all of it away (paper, figure 5.b).

    Raises:
        UserError: the machine has too little memory, or a device is to be another kernel's.
    """
    if sizes:
        raise UserError("the only kernel of policy hotplug owns all memory", hint="leave --size out")
    cpus = tuple(range(machine.nr_cpus))
    region, kept = hotplug_memory(machine)
    owned = devices_of_kernels(machine, devices, [0]).get(0, ())
    words = plan_words(machine, cpus, kept, owned, region, smp=False)
    primary = Partition(
        id=0,
        cpus=cpus,
        apic_ids=tuple(machine.apic_id(cpu) for cpu in cpus),
        memory=by_address([*kept, *free_blocks(machine, [*kept, region], SECTION)]),
        devices=owned,
        cmdline=cmdline(words, kept, owned, primary=True, hotplug=True, extra=extra_cmdline),
    )
    plan = Plan(
        machine=machine,
        policy=HOTPLUG,
        region=region,
        partitions=(primary,),
        hotplug=Hotplug(cpus=cpus, memory=kept),
    )
    validate(plan)
    return plan


def devices_of_kernels(
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
