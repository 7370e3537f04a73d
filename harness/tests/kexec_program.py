# SPDX-License-Identifier: Apache-2.0
"""kexec --popcorn as a program under test, and kernel files in miniature for it.

The program runs under a seccomp filter that answers the system calls which would load or start a kernel, so that
nothing can happen to the host and each answer of a kernel can be played.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from users_cache import users_cache_taken

from popcorn.errors import HostError

MIB = 1 << 20
PAGE = 4096

KEXEC_FLAGS = 0x3E0100  # KEXEC_ARCH_X86_64 | KEXEC_POPCORN
REBOOT_POPCORN = 0x504F5043

LOW = 0x1000000  # where vmlinux is linked to
ENTRY = LOW + 0x40


@dataclass(frozen=True)
class Load:
    paddr: int
    data: bytes
    memsz: int
    vaddr: int = 0


TEXT = Load(LOW, b"\x90" * 0x2345, 0x3000)
PERCPU = Load(LOW + 0x200000, b"p" * 0x1000, 0x1000)
INIT = Load(LOW + 0x201000, b"i" * 0x5000, 0x180000)  # with bss and brk
IMAGE_SIZE = 0x201000 + 0x180000


def vmlinux(
    loads: tuple[Load, ...] = (TEXT, PERCPU, INIT),
    *,
    entry: int = ENTRY,
    ident: bytes = b"\x7fELF\x02\x01\x01",
    type: int = 2,
    machine: int = 62,
    phentsize: int = 56,
) -> bytes:
    offset = 64 + 56 * len(loads)
    headers = bodies = b""
    for load in loads:
        fields = (1, 7, offset + len(bodies), load.vaddr, load.paddr, len(load.data), load.memsz, 0x200000)
        headers += struct.pack("<IIQQQQQQ", *fields)
        bodies += load.data
    start = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, type, machine, 1, entry, 64, 0, 0, 64, phentsize, len(loads), 64, 0, 0
    )
    return start + headers + bodies


@functools.cache
def kexec() -> str:
    if binary := os.environ.get("POPCORN_KEXEC"):
        return binary
    build = pytest.importorskip("popcorn.build.kexec")
    try:
        # Built anew for each that runs tests, it would take longer than all tests of it.
        with users_cache_taken():
            return str(build.build_kexec().binary)
    except HostError as error:
        pytest.skip(f"kexec cannot be built here: {error}")


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def answer(call: int, arguments: dict[int, int], number: int) -> bytes:
    """BPF: a system call with these low words as arguments gets an errno (0: success), with others ENOSYS."""
    checks = b"".join(
        struct.pack("<HBBI", 0x20, 0, 0, 16 + 8 * index)
        + struct.pack("<HBBI", 0x15, 0, 2 * (len(arguments) - done) - 1, value)
        for done, (index, value) in enumerate(arguments.items())
    )
    ends = struct.pack("<HBBI", 6, 0, 0, 0x50000 | number) + struct.pack("<HBBI", 6, 0, 0, 0x50000 | errno.ENOSYS)
    body = checks + ends
    return struct.pack("<HBBI", 0x15, 0, len(body) // 8, call) + body


KEXEC_LOAD, REBOOT = 246, 169
REFUSE_ALL = (answer(KEXEC_LOAD, {}, errno.ENOSYS), answer(REBOOT, {}, errno.ENOSYS))


def on_load(number: int, **arguments: int) -> bytes:
    return answer(KEXEC_LOAD, {3: KEXEC_FLAGS, **{int(key[1:]): value for key, value in arguments.items()}}, number)


def on_reboot(number: int, id: int) -> bytes:
    return answer(REBOOT, {0: 0xFEE1DEAD, 1: 672274793, 2: REBOOT_POPCORN, 3: id}, number)


def run(*arguments: str | Path, kernel_answers: tuple[bytes, ...] = ()) -> subprocess.CompletedProcess[str]:
    code = struct.pack("<HBBI", 0x20, 0, 0, 0) + b"".join((*kernel_answers, *REFUSE_ALL))
    code += struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Filter(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)

    def confine() -> None:
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
            os._exit(99)

    argv = [kexec(), "--popcorn", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, preexec_fn=confine, timeout=30, check=False)


@dataclass
class Kernel:
    """A kernel file and what the tool makes of it."""

    directory: Path

    def __post_init__(self) -> None:
        self.file = self.directory / "vmlinux"
        self.file.write_bytes(vmlinux())

    def load(self, *options: str | Path, address: str = "0x40000000+64M", boot: str = "5", **more: Any) -> Any:
        return run("--load", self.file, f"--address={address}", f"--boot={boot}", *options, **more)

    def layout(self, *options: str | Path, **more: Any) -> Any:
        done = self.load("--dry-run", *options, **more)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    def refused(self, *options: str | Path, **more: Any) -> str:
        return message(self.load(*options, **more))

    def initrd(self, size: int) -> Path:
        path = self.directory / "initrd"
        with path.open("wb") as file:
            file.truncate(size)
        return path


def message(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("kexec: ")
    assert done.stderr.count("\n") == 1
    return done.stderr
