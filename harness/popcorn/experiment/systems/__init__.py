# SPDX-License-Identifier: Apache-2.0
"""The systems that descriptions can name. To add one, write a class that fits `protocols.System` and put it into
`SYSTEMS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from popcorn.experiment.protocols import Setting, System
from popcorn.experiment.systems.popcorn import cluster, per_core, per_node
from popcorn.experiment.systems.smp import SmpLinux
from popcorn.experiment.systems.virtual import VirtualMachines

SYSTEMS: Mapping[str, Callable[[Setting], System]] = {
    "popcorn": per_core,
    "popcorn-node": per_node,
    "popcorn-cluster": cluster,
    "smp": SmpLinux,
    "vm": VirtualMachines,
}
