# SPDX-License-Identifier: Apache-2.0
"""Where a kernel is on the machine's own network: everything follows from its id.

In the guests `popcorn-init` gives the interface pcn0 the same addresses, and tells it the others' hardware addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

NETWORK_V4 = IPv4Network("10.80.0.0/16")
NETWORK_V6 = IPv6Network("fd50:4f50:434e::/64")


@dataclass(frozen=True)
class Address:
    """A kernel's address in both protocols, and its host name."""

    v4: IPv4Address
    v6: IPv6Address
    name: str


def address_of(id: int) -> Address:
    """The address of the kernel with this id.

    Raises:
        ValueError: an id beyond the network.
    """
    # The address before the broadcast address is the last.
    if not 0 < id + 1 < NETWORK_V4.num_addresses - 1:
        raise ValueError(f"kernel id {id} has no address in {NETWORK_V4}")
    return Address(NETWORK_V4[id + 1], NETWORK_V6[id + 1], f"kernel-{id}")
