# SPDX-License-Identifier: Apache-2.0
"""What verbs that boot machines need of the host, told before anything is built."""

from __future__ import annotations


def require_host(verb: str) -> None:
    """Install the packages that a verb needs, and look at QEMU.

    Raises:
        HostError: something is missing or too old.
    """
    from popcorn import hostpackages
    from popcorn.machine import qemu

    hostpackages.ensure(verb)
    qemu.host_version()
