# SPDX-License-Identifier: Apache-2.0
"""How one kernel of a machine loads and starts others: with which tools, from which images."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popcorn import cpulist
from popcorn.errors import GuestError
from popcorn.guest.copy import fetch_file, send_file
from popcorn.guest.handing import hand_over
from popcorn.guest.ssh import Ssh
from popcorn.image.initrd import Files, with_overlay
from popcorn.machine.machine import Machine
from popcorn.machine.orders import format_conf, parse_conf

_CONF = "/etc/popcorn/kernels"
_TOOLS = ("/sbin/kexec", "/sbin/popcorn-launch")
# Root's alone, as they run with its rights.
_TOOLS_FOLDER = "/root/popcorn-tools"
# What the kernel says that refuses to load another where somebody may still write to.
_HOLDER = re.compile(r"kernel (\d+) still uses memory of kernel \d+")


@dataclass(frozen=True)
class Change:
    """What a kernel shall run for one life in place of what the machine was booted with."""

    vmlinux: Path | None = None
    initrd: Path | None = None
    """An initramfs."""
    overlay: Files | None = None
    """What is added to that: keys, names."""
    parameters: str = ""
    """Words at the end of its command line."""

    @property
    def any(self) -> bool:
        return bool(self.vmlinux or self.initrd or self.parameters)


def named(ids: Sequence[int]) -> str:
    """How a message speaks of kernels: ``kernels 1-3``."""
    return f"kernel{'s' if len(ids) > 1 else ''} {cpulist.format(ids)}" if ids else "no kernel"


def load_and_start(machine: Machine, loader: int, ids: Sequence[int], change: Change) -> None:
    """Have a kernel start others that do not run.

    Raises:
        GuestError: it cannot be reached, or one of them was refused.
        MachineLostError: the machine is gone.
    """
    primary = machine.plan.primary.id
    ssh = machine.ssh(loader)
    path = equip(machine, loader)
    folder = ""
    if loader != primary or change.any:
        folder = _sh(ssh, "mktemp -d /tmp/popcorn-start.XXXXXX").strip()
    try:
        if folder:
            _place(machine, loader, ids, change, folder)
        script = f'export POPCORN_KERNELS={folder or _CONF}; {path} popcorn-launch "$@"'
        done = ssh.run(["sh", "-c", script, "sh", *(str(id) for id in ids)])
    finally:
        if folder:
            # kexec has copied what it needs.
            _sh(ssh, f"rm -r {folder}")
    if done.status:
        told = [line.partition(": ")[2] for line in done.stdout_text.splitlines() if " failed: " in line]
        why = "; ".join(told) or done.stderr_text.strip()
        raise GuestError(
            f"kernel {loader} could not start {named(ids)}: {why}", hint=_remedy(machine.name, loader, ids, why)
        )


def _remedy(name: str, loader: int, ids: Sequence[int], why: str) -> str:
    holders = {int(id) for id in _HOLDER.findall(why)} - set(ids)
    if not holders:
        return f"what it said: `popcorn log {loader} --name {name}`"
    all_ids = cpulist.format({*ids, *holders})
    return (
        f"{named(sorted(holders))} had messages for what was there and did not let go of the memory; what hangs "
        f"never does: `popcorn restart --force {all_ids} --name {name}` ends all of them before it starts one"
    )


def equip(machine: Machine, id: int) -> str:
    """How a shell in a kernel finds the tools, as words before a command; they are copied into it unless it is the
    primary."""
    if id == machine.plan.primary.id:
        return "PATH=/sbin:$PATH"
    ssh = machine.ssh(id)
    # The last one came last.
    if ssh.run(["sh", "-c", f"[ -x {_TOOLS_FOLDER}/{Path(_TOOLS[-1]).name} ]"]).status:
        _sh(ssh, f"mkdir -p {_TOOLS_FOLDER}")
        for tool in _TOOLS:
            hand_over(machine, tool, id, f"{_TOOLS_FOLDER}/{Path(tool).name}")
    return f"PATH={_TOOLS_FOLDER}:/sbin:$PATH"


def _sh(ssh: Ssh, script: str) -> str:
    done = ssh.run(["sh", "-c", script])
    if done.status:
        raise GuestError(f"{script!r} in {ssh.what} ended with {done.status}: {done.stderr_text.strip()}")
    return done.stdout_text


def _place(machine: Machine, loader: int, ids: Sequence[int], change: Change, folder: str) -> None:
    """Put into the loader's folder what it starts kernels from: their orders, images if they are not there yet."""
    there: dict[str, str] = {}
    for id in ids:
        fields = parse_conf(machine.primary.get(f"{_CONF}/{id}.conf").decode())
        for field, own in (("VMLINUX", change.vmlinux), ("INITRD", change.initrd)):
            source = fields[field]
            if own is None and loader == machine.plan.primary.id:
                continue
            key = f"{field} {own or source}"
            if key not in there:
                there[key] = f"{folder}/{len(there)}"
                _place_image(machine, loader, field, source, own, change.overlay or {}, there[key])
            fields[field] = there[key]
        fields["CMDLINE"] = f"{fields['CMDLINE']} {change.parameters}".rstrip()
        machine.ssh(loader).put(format_conf(fields).encode(), f"{folder}/{id}.conf")


def _place_image(
    machine: Machine, loader: int, field: str, source: str, own: Path | None, overlay: Files, target: str
) -> None:
    """Put a file of the host, or if there is none, of the primary into the loader."""
    if own is None and field == "VMLINUX":
        hand_over(machine, source, loader, target)
        return
    with tempfile.TemporaryDirectory(prefix="popcorn-start-") as between:
        local = Path(between) / "image"
        if own is None:
            # In it is the key that shows that a kernel's sshd is one.
            fetch_file(machine.primary, source, local)
        else:
            local.write_bytes(with_overlay(own, overlay) if field == "INITRD" else own.read_bytes())
        send_file(machine.ssh(loader), local, target)
