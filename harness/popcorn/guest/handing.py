# SPDX-License-Identifier: Apache-2.0
"""Files of the primary for another kernel, over their own network.

Not by ssh, whose ciphers take an emulated CPU seconds for a kernel's image. So it is for what everybody may know: any
process of any kernel could ask for it first (and then it does not arrive).
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from popcorn.errors import GuestError
from popcorn.machine.machine import Machine
from popcorn.plan.address import address_of

_PORTS = range(20_000, 30_000)
# Until the other kernel calls, and while it does so in vain.
_PATIENCE_S = 30
_OFFER = 'busybox sha256sum <"$4"; exec busybox nc -l -w "$1" -p "$3" -e /bin/busybox cat "$4"'
_TAKE = """
calls=0
until busybox nc "$2" "$3" </dev/null >"$4" 2>/dev/null && [ -s "$4" ]; do
    calls=$((calls + 1))
    [ "$calls" -lt $(($1 * 5)) ] || exit 1
    sleep 0.2
done
busybox sha256sum <"$4"
"""
# It may be about to be offered, or have been fetched.
_DROP = 'for _ in 1 2 3 4 5 6 7 8; do busybox nc 127.0.0.1 "$1" </dev/null >/dev/null 2>&1 && exit; sleep 0.2; done'


def hand_over(machine: Machine, source: str, id: int, target: str) -> None:
    """Copy a file of the primary that is not empty and no secret into kernel ``id``.

    Raises:
        GuestError: it did not arrive whole, or a kernel cannot be reached.
        MachineLostError: the machine is gone.
    """
    port = str(random.choice(_PORTS))
    where = (str(_PATIENCE_S), str(address_of(machine.plan.primary.id).v4), port)
    with ThreadPoolExecutor(1) as pool:
        offer = pool.submit(machine.primary.run, ["sh", "-c", _OFFER, "sh", *where, source])
        try:
            taken = machine.ssh(id).run(["sh", "-c", _TAKE, "sh", *where, target])
        except BaseException:
            # Whoever interrupts this does not wait until nobody has come for it.
            machine.primary.run(["sh", "-c", _DROP, "sh", port])
            raise
        offered = offer.result()
    if taken.status or offered.stdout != taken.stdout:
        said = offered.stderr_text.strip() or f"it has {taken.stdout_text.strip() or 'nothing'}"
        raise GuestError(f"{source} of the primary did not arrive whole in kernel {id}: {said}")
