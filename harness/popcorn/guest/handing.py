# SPDX-License-Identifier: Apache-2.0
"""Files of the primary for another kernel, over their own network.

Not by ssh, whose ciphers take an emulated CPU seconds for a kernel's image. So it is for what everybody may know: any
process of any kernel could ask for it first, or answer in the primary's place. Then it does not arrive, which its sum
tells, and that came by ssh.
"""

from __future__ import annotations

import random

from popcorn.errors import GuestError
from popcorn.guest.copy import DAMAGED, RECEIVE
from popcorn.guest.ssh import TimedOutError
from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of

_PORTS = range(20_000, 30_000)
# Until the other kernel calls, and while it does so in vain.
_PATIENCE_S = 30
# For all of it, on a host that is slow.
_TRANSFER_S = 120.0
_LOOK = 'stat -L -c "%a %s" "$1" && busybox sha256sum <"$1"'
_TAKE = """
receive=$1 address=$2 port=$3 calls=$4
shift 4
until busybox nc "$address" "$port" </dev/null 2>/dev/null; do
    calls=$((calls - 1))
    [ "$calls" -gt 0 ] || exit
    sleep 0.2
done | sh -c "$receive" sh "$@"
"""


def hand_over(machine: Machine, source: str, id: int, target: str) -> None:
    """Copy a file of the primary that is no secret into kernel ``id``, with its permissions.

    Raises:
        GuestError: it did not arrive, or does not fit, or a kernel cannot be reached.
        MachineLostError: the machine is gone.
    """
    looked = machine.primary.run(["sh", "-c", _LOOK, "sh", source])
    if looked.status:
        raise GuestError(f"{source} of the primary cannot be read: {looked.stderr_text.strip()}")
    mode, size, digest, _ = looked.stdout_text.split()
    port = str(random.choice(_PORTS))
    offer = ["busybox", "nc", "-l", "-w", str(_PATIENCE_S), "-p", port, "-e", "/bin/busybox", "cat", source]
    words = ["sh", "-c", _TAKE, "sh", RECEIVE, str(address_of(machine.plan.primary.id).v4), port]
    words += [str(5 * _PATIENCE_S), target, "", mode, size, digest]
    # What still offers it when this block is left, however that is, is ended.
    with machine.primary.command(offer):
        try:
            taken = machine.ssh(id).run(words, timeout_s=_TRANSFER_S)
        except TimedOutError as error:
            raise GuestError(f"{source} of the primary did not arrive in kernel {id}: {error}") from error
    if taken.status:
        why = "it is not what was sent" if taken.status == DAMAGED else taken.stderr_text.strip()
        raise GuestError(f"{source} of the primary did not arrive in kernel {id}: {why}")
