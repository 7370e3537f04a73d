# SPDX-License-Identifier: Apache-2.0
"""Whether KVM really works on this host.

``/dev/kvm`` that opens proves nothing: only a kernel that came through its own boot does.
So a small guest boots once on KVM, and the answer is remembered until host, QEMU or
guest kernel change.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from popcorn import progress
from popcorn.dirs import cache_dir
from popcorn.files import write_atomic
from popcorn.machine import qemu
from popcorn.process import dying_with_parent

DEVICE = Path("/dev/kvm")
PROBE_S = 15.0
# Either of these means that the kernel ran all its initcalls, on both CPUs.
_BOOTED = (b"Run /init as init process", b"Unable to mount root fs", b"No working init found")
_LOOK_S = 0.1


@dataclass(frozen=True)
class Verdict:
    """Whether KVM can be used, and why (not)."""

    usable: bool
    reason: str


def probe(kernel: Path, *, device: Path = DEVICE, fresh: bool = False) -> Verdict:
    """Find out, or remember, whether KVM boots this kernel.

    Args:
        kernel: a bzImage.
        fresh: don't use the remembered answer.

    Raises:
        HostError: there is no usable QEMU.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        why = "is not there" if not device.exists() else "may not be opened by this user"
        return Verdict(False, f"{device} {why}")
    remembered = cache_dir() / "kvm" / f"{_identity(kernel)}.json"
    if not fresh:
        try:
            return Verdict(**json.loads(remembered.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            pass
    with progress.step("trying whether KVM really boots a kernel here"):
        verdict = boot_once(_probe_argv(kernel), PROBE_S)
    write_atomic(remembered, json.dumps(asdict(verdict)))
    return verdict


def boot_once(argv: list[str], deadline_s: float, clock: Callable[[], float] = time.monotonic) -> Verdict:
    """Run a QEMU whose serial port is its stdout until the kernel has booted, it ends, or the time is over."""
    guest = subprocess.Popen(
        dying_with_parent(argv, death_signal="KILL"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert guest.stdout is not None
    os.set_blocking(guest.stdout.fileno(), False)
    began = clock()
    output = b""
    try:
        while True:
            ended = guest.poll() is not None
            output += guest.stdout.read() or b""
            if any(marker in output for marker in _BOOTED):
                return Verdict(True, f"a kernel booted on it in {clock() - began:.1f} s")
            if ended:
                return Verdict(False, f"QEMU ended with status {guest.returncode}: {_last_line(output)}")
            if clock() - began > deadline_s:
                said = f"its last line: {_last_line(output)}" if output else "it printed nothing"
                return Verdict(False, f"a kernel that was booted on it got nowhere within {deadline_s:g} s ({said})")
            time.sleep(_LOOK_S)
    finally:
        guest.kill()
        guest.stdout.close()
        guest.wait()


def _probe_argv(kernel: Path) -> list[str]:
    line = [qemu.PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-machine", "q35", "-accel", "kvm", "-cpu", "max", "-smp", "2", "-m", "512M"]
    line += ["-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    return line


def _identity(kernel: Path) -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    parts = (boot_id, str(qemu.host_version()), os.uname().release, str(kernel.resolve()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "nothing")
