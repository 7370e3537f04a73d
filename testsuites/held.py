# SPDX-License-Identifier: Apache-2.0
"""One CPU of a machine held still while all others run: what happens around a kernel that does nothing for a while.

QEMU's stub for debuggers can do that. It speaks the remote serial protocol of GDB: ``$`` packet ``#`` checksum,
each acknowledged by ``+``; a thread is a CPU, counted from 1.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from popcorn.machine.machine import Machine

_SOCKET = "gdb.sock"
_ANSWER_S = 30.0


class _Stub:
    """The connection to QEMU's stub; the whole machine stands still when it is made."""

    def __init__(self, connected: socket.socket) -> None:
        self._stream = connected.makefile("rwb", buffering=0)

    def send(self, packet: str) -> None:
        """Send a packet, and wait until QEMU has it; what QEMU said before does not matter."""
        self._stream.write(f"${packet}#{sum(packet.encode()) & 0xFF:02x}".encode())
        while (begin := self._byte()) != b"+":
            assert begin == b"$", f"QEMU's stub answered {begin!r} to {packet!r}"
            self._rest()

    def receive(self) -> str:
        """The next packet that QEMU sends."""
        begin = self._byte()
        assert begin == b"$", f"QEMU's stub sent {begin!r} in place of a packet"
        packet = self._rest()
        self._stream.write(b"+")
        return packet

    def _rest(self) -> str:
        packet = b""
        while (byte := self._byte()) != b"#":
            packet += byte
        for _ in range(2):
            self._byte()
        return packet.decode()

    def _byte(self) -> bytes:
        byte: bytes | None = self._stream.read(1)
        assert byte, "QEMU's stub hung up"
        return byte

    def interrupt(self) -> None:
        """Have all CPUs stand still again."""
        self._stream.write(b"\x03")
        self.receive()


@contextmanager
def held(machine: Machine, cpu: int) -> Iterator[None]:
    """Hold a CPU, by its global number, until the block ends; wherever it is, it goes on from there."""
    with machine.qmp() as qmp:
        qmp.monitor(f"gdbserver unix:{_SOCKET},server=on,wait=off")
    try:
        with socket.socket(socket.AF_UNIX) as connected:
            connected.settimeout(_ANSWER_S)
            connected.connect(str(machine.record.directory / _SOCKET))
            stub = _Stub(connected)
            others = (other for other in range(machine.plan.machine.nr_cpus) if other != cpu)
            stub.send("vCont;" + ";".join(f"c:{other + 1:x}" for other in others))
            try:
                yield
            finally:
                stub.interrupt()
                # The process by its number: without it QEMU sometimes takes none for the one that is meant, E22.
                stub.send("D;1")
                # That the CPUs stopped may be told once more.
                while (answer := stub.receive()).startswith("T"):
                    pass
                assert answer == "OK", f"QEMU's stub answered {answer!r} to a detach"
    finally:
        with machine.qmp() as qmp:
            qmp.monitor("gdbserver none")
