# SPDX-License-Identifier: Apache-2.0
"""What a saved machine was made of: it goes on only where all of that is the same.

Paths, names and ports are no part of it, so that a machine goes on under another name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from popcorn.files import sha256_bytes
from popcorn.machine import qemu
from popcorn.machine.boot import BootFiles
from popcorn.machine.booted import BootedKernel
from popcorn.machine.launch import machine_spec
from popcorn.plan.model import Plan
from popcorn.process import require_program
from popcorn.snapshot.file import FORMAT

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Inputs:
    """Each part as JSON values."""

    format: int
    qemu: str
    host: str
    """The kind of CPU: its time stamp counter is the machine's, whose kernels have measured the rate."""
    accel: str
    hardware: tuple[str, ...]
    """QEMU's command line."""
    keys: str
    """For logging in."""
    plan: str
    kernels: Mapping[str, str]
    """What each runs, by its key in the store."""
    image: Mapping[str, str]
    """What the primary's initrd is put together from; empty where that is not known any more."""

    @property
    def key(self) -> str:
        """Equal keys mean equal machines."""
        return sha256_bytes(json.dumps(asdict(self), sort_keys=True).encode())[:32]

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Inputs:
        """
        Raises:
            TypeError, KeyError: they are none.
        """
        return Inputs(**{**fields, "hardware": tuple(fields["hardware"])})


def of_boot(plan: Plan, files: BootFiles, accel: str) -> Inputs | None:
    """The inputs of a machine that is to be booted; None if not all that goes in is known."""
    if files.header is None or not files.contents or set(files.kernels) != {p.id for p in plan.partitions}:
        return None
    kernels = {str(id): kernel.dir.name for id, kernel in sorted(files.kernels.items())}
    return _inputs(plan, accel, kernels, files.contents)


def of_machine(plan: Plan, accel: str, kernels: Mapping[int, BootedKernel]) -> Inputs:
    """The inputs of a machine that is up, as far as they were recorded."""
    return _inputs(plan, accel, {str(id): kernel.key for id, kernel in sorted(kernels.items())}, {})


@dataclass(frozen=True)
class Wanted:
    """What the user says of a machine that goes on from a snapshot; None where nothing was said."""

    plan: str | None
    kernels: Mapping[str, str] | None


def wanted(plan: Plan | None, files: BootFiles | None) -> Wanted:
    """What a snapshot shall agree with."""
    return Wanted(
        None if plan is None else _digest(plan),
        None if files is None else {str(id): kernel.dir.name for id, kernel in sorted(files.kernels.items())},
    )


def _inputs(plan: Plan, accel: str, kernels: Mapping[str, str], image: Mapping[str, str]) -> Inputs:
    from popcorn.image import keys

    chosen: qemu.Accel = "kvm" if accel == "kvm" else "tcg"
    spec = machine_spec(plan, name="any", kernel=None, initrd=None, accel=chosen, run_dir=Path("/"))
    own = keys()
    return Inputs(
        format=FORMAT,
        qemu=_qemu(),
        host=_host_cpu(),
        accel=accel,
        hardware=tuple(qemu.argv(spec)),
        keys=sha256_bytes(f"{own.client_public} {own.host_public}".encode()),
        plan=_digest(plan),
        kernels=kernels,
        image=image,
    )


def differences(saved: Inputs, here: Inputs) -> Iterator[str]:
    """What does not agree, for the user; kernels and images count where both know them."""
    if saved.qemu != here.qemu:
        yield f"it was saved with QEMU {saved.qemu}, and this is {here.qemu}"
    if saved.host != here.host:
        yield f"it was saved on a host with CPUs of another kind ({saved.host}; here: {here.host})"
    if saved.accel != here.accel:
        yield f"it ran by {saved.accel}, and this would by {here.accel}"
    if saved.hardware != here.hardware:
        yield f"its machine is another one: {_words(saved.hardware, here.hardware)}"
    if saved.keys != here.keys:
        yield "its kernels know other keys for logging in than this user has now"
    yield from unwanted(saved, Wanted(here.plan, here.kernels or None))
    if saved.image and here.image:
        for part in sorted(saved.image.keys() | here.image.keys()):
            if saved.image.get(part) != here.image.get(part):
                yield f"the {part} is another one"


def unwanted(saved: Inputs, wanted: Wanted) -> Iterator[str]:
    """What does not agree with what the user says, for the user."""
    if wanted.plan is not None and saved.plan != wanted.plan:
        yield "its plan is another one"
    if wanted.kernels is not None:
        for id in sorted(saved.kernels.keys() | wanted.kernels.keys(), key=int):
            one, other = saved.kernels.get(id, "none"), wanted.kernels.get(id, "none")
            if one != other:
                yield f"kernel {id} runs build {one[:12]}, and now {other[:12]} is meant"


def _digest(plan: Plan) -> str:
    return sha256_bytes(plan.to_json().encode())


def _words(saved: tuple[str, ...], here: tuple[str, ...]) -> str:
    gone = [word for word in saved if word not in here]
    come = [word for word in here if word not in saved]
    return f"QEMU was told {' '.join(gone) or 'less'}, and is now told {' '.join(come) or 'less'}"


def _qemu() -> str:
    """The version and the digest of the program: what it saves is its own."""
    version = ".".join(map(str, qemu.host_version()))
    program = Path(require_program(qemu.PROGRAM))
    return f"{version} ({xxhash.xxh3_128_hexdigest(program.read_bytes())[:12]})"


def _host_cpu() -> str:
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
