# SPDX-License-Identifier: Apache-2.0
"""Commands and files in one kernel over ssh; how its sshd is reached is for others to say.

A connection carries one command at a time, and is used again for the next: dropbear closes channels
that have no command yet whenever the command of another one ends (channelio() in its common-channel.c),
so that commands side by side on one connection get lost.
"""

from __future__ import annotations

import logging
import os
import select
import shlex
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import paramiko

from popcorn.errors import GuestError, PopcornError, UserError
from popcorn.guest.finished import Finished

if TYPE_CHECKING:
    import fabric

USER = "root"
# An emulated guest with 48 kernels may be slow to answer, but not that slow.
CONNECT_S = 60.0
_LOOK_S = 1.0
_CHUNK_BYTES = 1 << 16
_SIGNALLED = 255
_IDLE_LIMIT = 4
# MAX_CMD_LEN in dropbear's sysoptions.h.
_LONGEST_COMMAND_BYTES = 9000
# In each image: what runs there ends when its connection is closed, whatever ended this side.
_LEASH = ("exec", "popcorn-leash")
_LOGIN_SHELL = ("sh", "-l")

# What goes wrong is raised as well; the user is told once.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

OnOutput = Callable[[str, bytes], None]


def hang_up(client: paramiko.SSHClient) -> None:
    """Close a connection, also one through another that is broken already."""
    with suppress(paramiko.SSHException, OSError, EOFError):
        client.close()


def feed(channel: paramiko.Channel, pieces: Iterable[bytes]) -> None:
    """Have a thread send these to a command as they come, and then its end of input."""

    def work() -> None:
        # A command that ends while its input goes on is no error.
        with suppress(OSError, EOFError, paramiko.SSHException):
            for piece in pieces:
                channel.sendall(piece)
            channel.shutdown_write()

    threading.Thread(target=work, daemon=True, name="stdin").start()


class UnreachedError(GuestError):
    """No connection to a kernel: nothing ran there."""


class TimedOutError(GuestError):
    """A command did not end in time."""


@dataclass(frozen=True)
class Terminal:
    """What a command finds as its terminal."""

    kind: str
    columns: int
    rows: int


class Ssh(ABC):
    """The connections into one kernel, made when they are needed. Threads may share it."""

    def __init__(self, what: str) -> None:
        """
        Args:
            what: what messages call the kernel.
        """
        self.what = what
        self._open: list[paramiko.SSHClient] = []
        self._idle: list[paramiko.SSHClient] = []
        self._lock = threading.Lock()

    @abstractmethod
    def _connect(self) -> paramiko.SSHClient:
        """A new connection. Raises UnreachedError, MachineLostError."""

    def require_running(self) -> None:
        """Raises GuestError if the kernel has ended; asked while a command is waited for."""
        return

    def require_reachable(self) -> None:
        """Raises UnreachedError if it is known that nothing would be answered; asked before each command."""
        return

    @abstractmethod
    def broken(self, error: Exception) -> PopcornError:
        """What to raise for a connection that broke."""

    @abstractmethod
    def fabric(self) -> fabric.Connection:
        """A Fabric connection of its own into the kernel, closed by the caller."""

    def close(self) -> None:
        """Hang up; what runs is cut off."""
        with self._lock:
            for client in self._open:
                hang_up(client)
            self._open.clear()
            self._idle.clear()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Finished:
        """Run a command and wait for its end.

        Args:
            argv: the exact words; no shell looks at them.
            stdin: all that it can read, or pieces that are sent as they come.
            timeout_s: how long it may take.
            on_output: called with ``stdout`` or ``stderr`` and some bytes as they come.

        Raises:
            UserError: the command is longer than the sshd takes.
            UnreachedError: the kernel does not answer.
            TimedOutError: the command took too long.
            GuestError: the connection broke.
            MachineLostError: the machine is gone.
        """
        with self.command(argv) as channel:
            if isinstance(stdin, bytes):
                if stdin:
                    channel.sendall(stdin)
                channel.shutdown_write()
            else:
                feed(channel, stdin)
            return self.collect(channel, argv, timeout_s, on_output)

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in the kernel, its folder too; errors as for `run`, and GuestError if it cannot be written."""
        folder = str(PurePosixPath(path).parent)
        script = 'mkdir -p "$1" && cat >"$2.part" && chmod "$3" "$2.part" && mv "$2.part" "$2"'
        done = self.run(["sh", "-c", script, "sh", folder, path, f"{mode:o}"], stdin=content)
        if done.status:
            raise GuestError(f"cannot write {path} in {self.what}: {done.stderr_text.strip()}")

    def get(self, path: str) -> bytes:
        """Read a file of the kernel; errors as for `run`, and GuestError if it cannot be read."""
        done = self.run(["cat", path])
        if done.status:
            raise GuestError(f"cannot read {path} in {self.what}: {done.stderr_text.strip()}")
        return done.stdout

    @contextmanager
    def command(self, argv: Sequence[str], *, terminal: Terminal | None = None) -> Iterator[paramiko.Channel]:
        """A running command, as the channel to it; it is hung up when the block ends, and a command that still runs is
        ended. Errors as for `run`.

        Args:
            argv: the exact words; none for a login shell.
            terminal: give it a terminal of its own.
        """
        # A terminal that is hung up ends its commands by itself. A file's name need not be text.
        leashed = argv if terminal is not None else [*_LEASH, *(argv or _LOGIN_SHELL)]
        words = os.fsencode(shlex.join(leashed))
        if len(words) > _LONGEST_COMMAND_BYTES:
            raise UserError(
                f"the command has {len(words)} bytes; the sshd of {self.what} takes {_LONGEST_COMMAND_BYTES}",
                hint="copy a script there with `popcorn cp` and run that",
            )
        client, session = self._open_session()
        done = False
        try:
            with closing(session) as channel:
                if terminal is not None:
                    channel.get_pty(terminal.kind, terminal.columns, terminal.rows)
                if leashed:
                    channel.exec_command(words)
                else:
                    channel.invoke_shell()
                yield channel
                done = channel.exit_status_ready()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.broken(error) from error
        finally:
            self._give_back(client, reusable=done)

    def collect(
        self, channel: paramiko.Channel, argv: Sequence[str], timeout_s: float | None, on_output: OnOutput | None
    ) -> Finished:
        """Everything that a running command prints, and how it ends; arguments and errors as for `run`."""
        began = time.monotonic()
        streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        readers = {
            "stdout": (channel.recv_ready, channel.recv),
            "stderr": (channel.recv_stderr_ready, channel.recv_stderr),
        }
        while True:
            # In this order: what came before the end is read before the end is believed.
            ended = (channel.exit_status_ready() and channel.eof_received) or channel.closed
            quiet = True
            for name, (ready, receive) in readers.items():
                while ready():
                    piece = receive(_CHUNK_BYTES)
                    if not piece:
                        break
                    quiet = False
                    streams[name].append(piece)
                    if on_output is not None:
                        on_output(name, piece)
            if ended and quiet:
                break
            left_s = _LOOK_S if timeout_s is None else began + timeout_s - time.monotonic()
            if left_s <= 0:
                raise TimedOutError(f"{shlex.join(argv)} did not end within {timeout_s:g} s in {self.what}")
            if not quiet or ended:
                continue
            select.select([channel], [], [], min(left_s, 0.02 if channel.eof_received else _LOOK_S))
            if not channel.get_transport().is_active() and not channel.exit_status_ready():
                raise paramiko.SSHException("the connection broke")
            if not channel.recv_ready() and not channel.exit_status_ready():
                self.require_running()
        # A broken connection closes its channels, so that theirs is no evidence of an end.
        if channel.exit_status < 0 and not channel.get_transport().is_active():
            raise paramiko.SSHException("the connection broke")
        status = channel.exit_status if channel.exit_status >= 0 else _SIGNALLED
        return Finished(tuple(argv), status, b"".join(streams["stdout"]), b"".join(streams["stderr"]))

    def _open_session(self) -> tuple[paramiko.SSHClient, paramiko.Channel]:
        """A channel without a command yet, and its connection; one that waited may have gone stale."""
        self.require_reachable()
        while (client := self._waiting()) is not None:
            try:
                return client, client.get_transport().open_session(timeout=CONNECT_S)
            except (paramiko.SSHException, OSError, EOFError):
                self._drop(client)
        client = self._connect()
        with self._lock:
            self._open.append(client)
        try:
            return client, client.get_transport().open_session(timeout=CONNECT_S)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._drop(client)
            raise self.broken(error) from error

    def _waiting(self) -> paramiko.SSHClient | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, client: paramiko.SSHClient, *, reusable: bool) -> None:
        with self._lock:
            if reusable and client in self._open and len(self._idle) < _IDLE_LIMIT:
                self._idle.append(client)
                return
        self._drop(client)

    def _drop(self, client: paramiko.SSHClient) -> None:
        hang_up(client)
        with self._lock:
            if client in self._open:
                self._open.remove(client)
