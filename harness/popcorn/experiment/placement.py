# SPDX-License-Identifier: Apache-2.0
"""Which kernels a workload runs in, and why it cannot."""

from __future__ import annotations

from collections.abc import Sequence

from popcorn.config.sizes import format_size
from popcorn.experiment.protocols import Kernel, Share, System, Workload


def place(kernels: Sequence[Kernel], cores: int, *, together: bool = False, least_kernels: int = 1) -> list[Share]:
    """Divide cores among kernels: each is filled before the next one.

    Args:
        together: all in one kernel.
        least_kernels: spread over at least so many, if there are so many.

    Returns an empty list when there are not enough.
    """
    if together:
        fits = [kernel for kernel in kernels if kernel.cpus >= cores]
        return [Share(fits[0], cores)] if fits else []
    shares: list[Share] = []
    left = cores
    for kernel in kernels:
        # What the kernels after this one must get at least.
        reserved = max(0, min(least_kernels, len(kernels)) - len(shares) - 1)
        taken = min(kernel.cpus, left - reserved)
        if taken > 0:
            shares.append(Share(kernel, taken))
            left -= taken
        if not left:
            return shares
    return []


def shares_for(system: System, workload: Workload, cores: int) -> list[Share]:
    """Where a workload will run, from what the system says before it is booted; empty if it cannot."""
    needs = workload.needs
    kernels = system.kernels(system.state(cores, needs.together))
    return place(kernels, cores, together=needs.together, least_kernels=needs.kernels)


def obstacle(system: System, workload: Workload, cores: int) -> str:
    """Why a system cannot run a workload by its nature; empty if it can."""
    needs = workload.needs
    if needs.messages and not system.messages:
        return "it has no messages between kernels"
    if not shares_for(system, workload, cores):
        if needs.together:
            most = max(kernel.cpus for kernel in system.kernels(system.state(cores, needs.together)))
            return f"its threads share memory, and no kernel has {cores} CPUs (the largest has {most})"
        return f"its kernels have fewer than {cores} CPUs"
    return ""


def too_large(system: System, workload: Workload, cores: int) -> str:
    """Why a workload does not fit into a kernel's memory; empty if it does."""
    for share in shares_for(system, workload, cores):
        wanted = workload.memory_bytes(share.cores, cores)
        if wanted > share.kernel.memory_bytes:
            return (
                f"{workload.name} on {cores} core{'s' if cores > 1 else ''} takes {format_size(wanted)}, and kernel "
                f"{share.kernel.id} of {system.name} has {format_size(share.kernel.memory_bytes)}"
            )
    return ""
