# SPDX-License-Identifier: Apache-2.0
"""Commands and files in the primary, over ssh to its forwarded loopback port.

A connection carries one command at a time, and is used again for the next: dropbear closes channels
that have no command yet whenever the command of another one ends (channelio() in its common-channel.c),
so that commands side by side on one connection get lost.

The host key is the one that the harness put into the image, and no other.
"""

from __future__ import annotations

import logging
import select
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import paramiko

from popcorn.errors import GuestError, HostError, MachineLostError
from popcorn.guest.finished import Finished
from popcorn.image.keys import keys
from popcorn.machine import registry
from popcorn.machine.registry import Record

if TYPE_CHECKING:
    import fabric

USER = "root"
_HOST = "127.0.0.1"
# An emulated guest with 48 kernels may be slow to answer, but not that slow.
_CONNECT_S = 60.0
_RETRY_S = 0.3
_EPITAPH_S = 2.0
_LOOK_S = 1.0
_CHUNK_BYTES = 1 << 16
_SIGNALLED = 255

_IDLE_LIMIT = 4

# What goes wrong is raised as well; the user is told once.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

OnOutput = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Terminal:
    """What a command finds as its terminal."""

    kind: str
    columns: int
    rows: int


class Primary:
    """The connection into the primary of a machine; connects at first use. Threads may share it."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._idle: list[paramiko.SSHClient] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            for client in self._idle:
                client.close()
            self._idle.clear()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Finished:
        """Run a command and wait for its end.

        Args:
            argv: the exact words; no shell looks at them.
            timeout_s: how long it may take.
            on_output: called with ``stdout`` or ``stderr`` and some bytes as they come.

        Raises:
            GuestError: the primary does not answer, or the command took too long.
            MachineLostError: the machine is gone.
        """
        with self.command(argv) as channel:
            if stdin:
                channel.sendall(stdin)
            channel.shutdown_write()
            return self._collect(channel, argv, timeout_s, on_output)

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in the primary, its folder too; errors as for `run`, and GuestError if it cannot be written."""
        folder = str(PurePosixPath(path).parent)
        script = 'mkdir -p "$1" && cat >"$2.part" && chmod "$3" "$2.part" && mv "$2.part" "$2"'
        done = self.run(["sh", "-c", script, "sh", folder, path, f"{mode:o}"], stdin=content)
        if done.status:
            raise GuestError(f"cannot write {path} in the primary: {done.stderr_text.strip()}")

    def get(self, path: str) -> bytes:
        """Read a file of the primary; errors as for `run`, and GuestError if it cannot be read."""
        done = self.run(["cat", path])
        if done.status:
            raise GuestError(f"cannot read {path} in the primary: {done.stderr_text.strip()}")
        return done.stdout

    @contextmanager
    def command(self, argv: Sequence[str], *, terminal: Terminal | None = None) -> Iterator[paramiko.Channel]:
        """A running command, as the channel to it; it is hung up when the block ends. Errors as for `run`.

        Args:
            terminal: give it a terminal of its own.
        """
        client = self._borrow()
        done = False
        try:
            transport = client.get_transport()
            assert transport is not None, "a client that has connected has a transport"
            with closing(transport.open_session(timeout=_CONNECT_S)) as channel:
                if terminal is not None:
                    channel.get_pty(terminal.kind, terminal.columns, terminal.rows)
                channel.exec_command(shlex.join(argv))
                yield channel
                done = channel.exit_status_ready()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._failure(error) from error
        finally:
            self._give_back(client, reusable=done)

    def fabric(self) -> fabric.Connection:
        """A Fabric connection of its own into the primary, closed by the caller."""
        import fabric

        connection = fabric.Connection(
            _HOST, user=USER, port=self._record.ssh_port, connect_timeout=int(_CONNECT_S), connect_kwargs=_credentials()
        )
        _trust(connection.client, self._record.ssh_port)
        return connection

    def _borrow(self) -> paramiko.SSHClient:
        with self._lock:
            while self._idle:
                client = self._idle.pop()
                transport = client.get_transport()
                if transport is not None and transport.is_active():
                    return client
                client.close()
        return self._connect()

    def _give_back(self, client: paramiko.SSHClient, *, reusable: bool) -> None:
        with self._lock:
            if reusable and len(self._idle) < _IDLE_LIMIT:
                self._idle.append(client)
                return
        client.close()

    def _connect(self) -> paramiko.SSHClient:
        deadline = time.monotonic() + _CONNECT_S
        port = self._record.ssh_port
        while True:
            client = paramiko.SSHClient()
            _trust(client, port)
            try:
                client.connect(
                    _HOST,
                    port,
                    USER,
                    timeout=_CONNECT_S,
                    banner_timeout=_CONNECT_S,
                    auth_timeout=_CONNECT_S,
                    **_credentials(),
                )
            except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as error:
                client.close()
                raise GuestError(
                    f"the primary of machine {self._record.name!r} was booted with other keys: {error}",
                    hint="end it and boot it again: `popcorn down`, `popcorn up`",
                ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                client.close()
                if time.monotonic() > deadline or not registry.is_live(self._record.name):
                    raise self._failure(error) from error
                time.sleep(_RETRY_S)
            else:
                return client

    def _collect(
        self, channel: paramiko.Channel, argv: Sequence[str], timeout_s: float | None, on_output: OnOutput | None
    ) -> Finished:
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
                raise GuestError(f"{shlex.join(argv)} did not end within {timeout_s:g} s in the primary")
            if not quiet or ended:
                continue
            select.select([channel], [], [], min(left_s, 0.02 if channel.eof_received else _LOOK_S))
            transport = channel.get_transport()
            if not transport.is_active() and not channel.exit_status_ready():
                raise paramiko.SSHException("the connection broke")
        # A broken connection closes its channels, so that theirs is no evidence of an end.
        if channel.exit_status < 0 and not channel.get_transport().is_active():
            raise paramiko.SSHException("the connection broke")
        status = channel.exit_status if channel.exit_status >= 0 else _SIGNALLED
        return Finished(tuple(argv), status, b"".join(streams["stdout"]), b"".join(streams["stderr"]))

    def _failure(self, error: Exception) -> GuestError | MachineLostError:
        # A machine that ends breaks its connections before its supervisor has written down why.
        deadline = time.monotonic() + _EPITAPH_S
        while registry.is_live(self._record.name) and time.monotonic() < deadline:
            time.sleep(_RETRY_S)
        record = registry.read_record(self._record.name) or self._record
        if record.status == "dead" or not registry.is_live(record.name):
            return MachineLostError(
                f"the machine {record.name!r} is gone: {record.reason or 'it was ended'}",
                hint=f"what it said last: `popcorn log --name {record.name}`",
            )
        return GuestError(
            f"the primary of machine {record.name!r} does not answer on 127.0.0.1:{record.ssh_port}: "
            f"{error or type(error).__name__}",
            hint=f"`popcorn ps --name {record.name}` and `popcorn log 0 --name {record.name}` tell how it is",
        )


def _credentials() -> dict[str, Any]:
    return {
        "pkey": paramiko.Ed25519Key.from_private_key_file(str(keys().client)),
        "look_for_keys": False,
        "allow_agent": False,
    }


def _trust(client: paramiko.SSHClient, port: int) -> None:
    kind, encoded = keys().host_public.split()[:2]
    name = f"[{_HOST}]:{port}"
    entry = paramiko.hostkeys.HostKeyEntry.from_line(f"{name} {kind} {encoded}")
    if entry is None or entry.key is None:
        raise HostError(f"the host key {keys().host} cannot be used", hint="remove that file; it is made again")
    client.get_host_keys().add(name, kind, entry.key)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
