# SPDX-License-Identifier: Apache-2.0
"""Which CPUs make up which kernel."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from popcorn import cpulist
from popcorn.config.machine import Machine
from popcorn.errors import UserError

Cpus = tuple[int, ...]

SMP = "smp"
HOTPLUG = "hotplug"
POLICIES = (SMP, HOTPLUG, "per-core", "per-node", "per-socket")


def cpu_groups(machine: Machine, policy: str) -> list[Cpus]:
    """The CPUs of each kernel, kernels by id (the smallest CPU).

    A policy is a name, or CPU lists separated by semicolons such as ``0-5;6,8,10;7,9,11``;
    CPUs that stand in none of the lists stay unused.

    Raises:
        UserError: the policy is unknown, or its lists do not fit the machine.
    """
    match policy:
        case "smp" | "hotplug":
            return [tuple(range(machine.nr_cpus))]
        case "per-core":
            return _grouped(machine, machine.core_of)
        case "per-node":
            return _grouped(machine, machine.node_of)
        case "per-socket":
            return _grouped(machine, machine.socket_of)
        case _:
            return _explicit(machine, policy)


def _grouped(machine: Machine, place_of: Callable[[int], int]) -> list[Cpus]:
    groups: dict[int, list[int]] = {}
    for cpu in range(machine.nr_cpus):
        groups.setdefault(place_of(cpu), []).append(cpu)
    return [tuple(cpus) for cpus in groups.values()]


def _explicit(machine: Machine, policy: str) -> list[Cpus]:
    if not any(letter.isdigit() for letter in policy.partition(";")[0]):
        near = difflib.get_close_matches(policy, POLICIES, n=1)
        known = f"policies are {', '.join(POLICIES)}, or CPU lists such as 0-5;6,8,10;7,9,11"
        raise UserError(f"unknown policy {policy!r}", hint=f"did you mean {near[0]!r}?" if near else known)
    groups = sorted(cpulist.parse(part) for part in policy.split(";") if part.strip())
    owner: dict[int, Cpus] = {}
    for cpus in groups:
        for cpu in cpus:
            if cpu >= machine.nr_cpus:
                raise UserError(
                    f"the policy {policy!r} names CPU {cpu}, which machine {machine.name} does not have",
                    hint=f"its CPUs are 0-{machine.nr_cpus - 1}",
                )
            if cpu in owner:
                raise UserError(
                    f"the policy {policy!r} gives CPU {cpu} to two kernels: "
                    f"{cpulist.format(owner[cpu])} and {cpulist.format(cpus)}",
                    hint="name each CPU once",
                )
            owner[cpu] = cpus
    if 0 not in owner:
        raise UserError(
            f"the policy {policy!r} gives CPU 0 to no kernel",
            hint="the firmware boots the primary on CPU 0: name it in one of the lists",
        )
    return groups
