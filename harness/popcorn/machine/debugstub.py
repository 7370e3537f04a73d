# SPDX-License-Identifier: Apache-2.0
"""QEMU's stub for debuggers: the one way to have some CPUs of a machine run and others not (gdbstub.c).

It speaks the remote serial protocol of GDB: ``$`` packet ``#`` checksum, each acknowledged by ``+``; a thread is a CPU,
counted from 1.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from popcorn.errors import HostError

SOCKET = "gdb.sock"
"""In the machine's directory."""
# QEMU's working directory is the machine's, whose name may hold what ends a value for QEMU.
BEGIN = f"gdbserver unix:{SOCKET},server=on,wait=off"
"""For QEMU's human monitor."""
END = "gdbserver none"
_ANSWER_S = 30.0
_INTERRUPT = b"\x03"


class Stub:
    """A connection to the stub; a context manager. The whole machine stands still soon after it was made; a connection
    that ends leaves all CPUs as they are.

    Errors of all methods: HostError when the stub does not answer.
    """

    def __init__(self, directory: Path) -> None:
        """
        Args:
            directory: the machine's.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        self._stream = self._socket.makefile("rwb", buffering=0)
        try:
            self._socket.connect(str(directory / SOCKET))
        except OSError as error:
            self.close()
            raise _silent(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def run(self, cpus: Iterable[int]) -> None:
        """Let these CPUs run, by their global numbers, and no others."""
        packet = "vCont" + "".join(f";c:{cpu + 1:x}" for cpu in cpus)
        try:
            self._stream.write(f"${packet}#{sum(packet.encode()) & 0xFF:02x}".encode())
            # That the CPUs stopped when we connected may be told first. To acknowledge that would stop them again.
            while self._byte() != b"+":
                self._packet()
        except (OSError, EOFError) as error:
            raise _silent(error) from error

    def halt(self) -> None:
        """Stop all CPUs; returns when they stand still."""
        try:
            self._stream.write(_INTERRUPT)
            begin, said = self._byte(), self._packet()
            self._stream.write(b"+")
        except (OSError, EOFError) as error:
            raise _silent(error) from error
        if begin != b"$" or not said.startswith(b"T"):
            raise HostError(f"QEMU's stub for debuggers did not let CPUs run: it said {(begin + said)!r}")

    def _packet(self) -> bytes:
        """The rest of a packet."""
        content = b""
        while (byte := self._byte()) != b"#":
            content += byte
        for _ in range(2):
            self._byte()
        return content

    def _byte(self) -> bytes:
        byte: bytes | None = self._stream.read(1)
        if not byte:
            raise EOFError("it hung up")
        return byte


def _silent(error: Exception) -> HostError:
    return HostError(f"QEMU's stub for debuggers does not answer: {error}")
