# SPDX-License-Identifier: Apache-2.0
"""Terminals on kernels: the primary's serial port, and the others' lines through the primary."""

from __future__ import annotations

import os
import shutil
import socket
from typing import TYPE_CHECKING

import pexpect
from pexpect.fdpexpect import fdspawn

from popcorn.errors import GuestError, MachineLostError
from popcorn.guest.terminal import converse
from popcorn.machine.qemu import SERIAL_SOCKET

if TYPE_CHECKING:
    from popcorn.machine.machine import Machine

PROMPT = "# "
_EXPECT_S = 60.0


def open_serial(machine: Machine) -> socket.socket:
    """The primary's serial port. QEMU serves one at a time; a second waits until the first has closed.

    Raises:
        MachineLostError: the machine is gone.
    """
    port = socket.socket(socket.AF_UNIX)
    try:
        port.connect(str(machine.record.directory / SERIAL_SOCKET))
    except OSError as error:
        port.close()
        if not machine.alive():
            raise machine.lost() from error
        raise MachineLostError(f"the serial port of machine {machine.name!r} does not answer: {error}") from error
    return port


class SerialConsole:
    """The primary's serial console for programs, by pexpect; a context manager."""

    def __init__(self, machine: Machine, *, timeout_s: float = _EXPECT_S) -> None:
        self._machine = machine
        self._socket = open_serial(machine)
        self._spawn = fdspawn(self._socket, timeout=timeout_s, encoding="utf-8", codec_errors="replace")

    def __enter__(self) -> SerialConsole:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send_line(self, text: str) -> None:
        """Type a line."""
        self._spawn.send(text + "\r")

    def expect(self, pattern: str, *, timeout_s: float | None = None) -> str:
        """Wait for a regular expression; return what came before it.

        Raises:
            GuestError: it did not come in time.
            MachineLostError: the machine ended.
        """
        try:
            self._spawn.expect(pattern, timeout=-1 if timeout_s is None else timeout_s)
        except pexpect.TIMEOUT as error:
            seen = str(self._spawn.buffer)[-200:]
            raise GuestError(f"expected {pattern!r} on the serial console; it says {seen!r}") from error
        except pexpect.EOF as error:
            raise self._machine.lost() from error
        return str(self._spawn.before)

    def shell(self, command: str, *, timeout_s: float | None = None) -> str:
        """Run a shell command at the prompt and return what it printed; errors as for `expect`."""
        self.send_line(f"{command}; printf '\\033[%s' e0m")
        printed = self.expect("\x1b\\[e0m", timeout_s=timeout_s)
        return printed.partition("\n")[2].replace("\r\n", "\n")


def interact(machine: Machine, id: int) -> None:
    """Join the user's terminal to a kernel until ``~.`` is typed at the beginning of a line.

    Raises:
        UserError: no such kernel.
        GuestError: the primary does not answer.
        MachineLostError: the machine is gone.
    """
    machine.plan.partition(id)
    if id == machine.plan.primary.id:
        with open_serial(machine) as port:
            # The prompt was printed when nobody listened.
            port.sendall(b"\r")
            converse(port)
        return
    from popcorn.guest.ssh import Terminal

    size = shutil.get_terminal_size()
    terminal = Terminal(os.environ.get("TERM", "vt100"), size.columns, size.lines)
    with machine.primary.command(["popcorn-vty", "connect", str(id)], terminal=terminal) as channel:
        converse(channel)
