# SPDX-License-Identifier: Apache-2.0
"""Joining the user's terminal to a stream, with ``~.`` at the beginning of a line to leave."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_CHUNK_BYTES = 4096


class Line(Protocol):
    """The far end: something to select on, to read from and to write to."""

    def fileno(self) -> int: ...
    def recv(self, nbytes: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...


class EscapeFilter:
    """Looks for ``~.`` at the beginning of a line in what the user types; ``~~`` is one tilde."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._tilde = False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What to send on, and whether the user wants to leave."""
        out = bytearray()
        for byte in typed:
            if self._tilde:
                self._tilde = False
                if byte == ord("."):
                    return bytes(out), True
                out += b"~"
                self._at_line_start = False
                if byte == ord("~"):
                    continue
            elif self._at_line_start and byte == ord("~"):
                self._tilde = True
                continue
            out.append(byte)
            self._at_line_start = byte in b"\r\n"
        return bytes(out), False


def converse(line: Line) -> None:
    """Pass bytes both ways until the user leaves, stdin ends, or the far end hangs up."""
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    escape = EscapeFilter()
    with _raw(stdin):
        while True:
            readable, _, _ = select.select([line, stdin], [], [])
            if line in readable:
                data = line.recv(_CHUNK_BYTES)
                if not data:
                    return
                os.write(stdout, data)
            if stdin in readable:
                typed = os.read(stdin, _CHUNK_BYTES)
                send, leave = escape.feed(typed)
                if send:
                    line.sendall(send)
                if leave or not typed:
                    return


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
