# SPDX-License-Identifier: Apache-2.0
"""What kernels know of each other's hardware addresses."""

from __future__ import annotations

from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of
from popcorn.testing import Everywhere

_KNOWN_FOR_GOOD = "0x6"


def assert_neighbours_known(machine: Machine, everywhere: Everywhere) -> None:
    """Each was told those of all that there may be on the machine, be they up or not."""
    ids = range(machine.plan.machine.nr_cpus)
    for id, text in everywhere("cat /proc/net/arp").items():
        rows = [line.split() for line in text.splitlines()[1:]]
        known = {
            address: hardware
            for address, _, flags, hardware, _, device in rows
            if device == "pcn0" and flags == _KNOWN_FOR_GOOD
        }
        others = {str(address_of(other).v4): f"02:50:43:4e:00:{other:02x}" for other in ids if other != id}
        assert known == others, f"in kernel {id}"
