# SPDX-License-Identifier: Apache-2.0
"""``iperf3`` in a kernel: brought there, run, and its answer read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from popcorn.errors import GuestError
from popcorn.guest.finished import Finished

PROGRAM = "/usr/bin/iperf3"
_PORT = 5201
_BUSY_S = 10.0
_GRACE_S = 60.0

Files = dict[str, tuple[bytes, int]]
Run = Callable[[Sequence[str], float], Finished]
"""Runs a command in the kernel that is meant, for at most so many seconds."""

# It listens when the kernel says so: /proc/net/tcp6 has ports in hexadecimal, 0A is the state.
_SERVE = f"""
{PROGRAM} -s -D >/dev/null 2>&1 || exit 1
looks=0
until cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ':{_PORT:04X} [0-9A-F:]* 0A '; do
    looks=$((looks + 1))
    [ $looks -lt 300 ] || exit 1
    sleep 0.1
done
"""


def iperf_files() -> Files:
    """Debian's program and its libraries, as an image gets them: path to content and permissions.

    Raises:
        HostError: the package cannot be fetched.
    """
    from popcorn.image.debian import debian_overlay

    return debian_overlay({"iperf3": {PROGRAM: PROGRAM}})


def serve(run: Run, where: str) -> None:
    """Start a server that stays.

    Raises:
        GuestError: it does not listen.
    """
    done = run(["sh", "-c", _SERVE], _GRACE_S)
    if done.status:
        raise GuestError(f"iperf3 does not listen in {where}: {done.stderr_text.strip() or 'it said nothing'}")


def throughput(run: Run, address: str, seconds: int, where: str) -> float:
    """Bits a second that a server receives over TCP, measured from a client in the kernel that is meant.

    Raises:
        GuestError: the measurement failed.
    """
    argv = [PROGRAM, "-c", address, "-t", str(seconds), "-i", "0", "-J"]
    deadline = time.monotonic() + _BUSY_S
    while True:
        done = run(argv, seconds + _GRACE_S)
        # The server may not have put away the client before.
        if b"busy" not in done.stdout or time.monotonic() > deadline:
            return received_bits_per_second(done, where)
        time.sleep(0.2)


def received_bits_per_second(done: Finished, where: str) -> float:
    """The receiver's figure in a client's JSON; errors as for `throughput`."""
    try:
        told = json.loads(done.stdout_text)
        if "error" in told:
            raise GuestError(f"iperf3 in {where} failed: {told['error']}")
        return float(told["end"]["sum_received"]["bits_per_second"])
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr_text.strip() or done.stdout_text.strip()[:200] or "it said nothing"
        raise GuestError(f"iperf3 in {where} gave no answer (exit status {done.status}): {said}") from error
