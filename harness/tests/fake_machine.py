# SPDX-License-Identifier: Apache-2.0
"""A machine of two kernels whose QEMU is a stand-in (fake_qemu.py)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shared_region import contract_header

from popcorn.config import load_machine
from popcorn.machine.boot import BootFiles, up
from popcorn.machine.machine import Machine
from popcorn.plan import Plan, make_plan

HERE = Path(__file__).parent
Boot = Callable[..., Machine]


def two_kernels() -> Plan:
    return make_plan(load_machine("small"), "0-3;4-7")


def write_initrd(target: Path) -> None:
    target.write_bytes(b"070701")


def boot_files() -> BootFiles:
    folder = Path(os.environ["POPCORN_CACHE"])
    folder.mkdir(parents=True, exist_ok=True)
    header, kernel = folder / "popcorn.h", folder / "bzImage"
    header.write_text(contract_header())
    kernel.write_bytes(b"kernel")
    return BootFiles(kernel=kernel, header=header, write_initrd=write_initrd)


def booter(place: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """What boots a machine whose kernels behave as told; what it gives is to be used as a context manager."""
    program = place / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE}/fake_qemu.py "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parent}")
    monkeypatch.setenv("FAKE_KERNELS", "0,4")

    def booted(part: str = "well", **options: object) -> Machine:
        monkeypatch.setenv("FAKE_QEMU", part)
        return up(two_kernels(), boot_files(), accel="tcg", **{"tied": True, **options})  # type: ignore[arg-type]

    return booted
