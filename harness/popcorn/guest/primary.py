# SPDX-License-Identifier: Apache-2.0
"""The primary's sshd, at a forwarded port on loopback, and through it the network of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import paramiko

from popcorn.errors import GuestError, MachineLostError, PopcornError
from popcorn.guest.ssh import CONNECT_S, USER, Ssh, UnreachedError, hang_up
from popcorn.guest.trust import Trust
from popcorn.machine import registry
from popcorn.machine.registry import Record
from popcorn.machine.room import HOST_CPUS

if TYPE_CHECKING:
    import fabric

_HOST = "127.0.0.1"
_RETRY_S = 0.3
_EPITAPH_S = 2.0
# A kernel's first handshake is code that the emulator has to translate: with more of them under way than the host has
# CPUs, all take more CPU time. Measured for 47 kernels on 2 CPUs: 24 s with 16 at once, 16 s with 2.
_HANDSHAKES_AT_ONCE = max(2, HOST_CPUS)


class Tunnel:
    """A channel as the socket of another connection."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def close(self) -> None:
        """paramiko's threads close it as well, after what it goes through broke, and nobody would catch what a channel
        raises then."""
        with suppress(paramiko.SSHException, OSError, EOFError):
            self._channel.close()


class Primary(Ssh):
    """Commands and files in the primary of a machine."""

    def __init__(self, record: Record, trust: Trust, *, require_running: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            require_running: raises `GuestError` if the primary is known to have ended.
        """
        super().__init__("the primary")
        self._require_running = require_running
        self._record = record
        self.trust = trust
        self._gateway: paramiko.SSHClient | None = None
        self._gateway_lock = threading.Lock()
        self.handshakes = threading.Semaphore(_HANDSHAKES_AT_ONCE)
        """For those with secondaries: who makes a connection holds it meanwhile."""
        self._closed = False

    def require_running(self) -> None:
        """Raises GuestError if it has ended."""
        self._require_running()

    def close(self) -> None:
        """Hang up, tunnels too."""
        self._closed = True
        super().close()
        with self._gateway_lock:
            if self._gateway is not None:
                hang_up(self._gateway)
                self._gateway = None

    def tunnel(self, host: str, port: int, timeout_s: float) -> Tunnel:
        """A TCP connection from the primary to another kernel, to be closed by the caller.

        Raises:
            paramiko.SSHException: nobody answers there.
            UnreachedError: the primary does not answer.
            MachineLostError: the machine is gone.
        """
        # All tunnels are on one connection, which carries no commands.
        with self._gateway_lock:
            transport = self._gateway.get_transport() if self._gateway is not None else None
            if self._gateway is None or transport is None or not transport.is_active():
                self._gateway = self._connect()
                transport = self._gateway.get_transport()
        return Tunnel(transport.open_channel("direct-tcpip", (host, port), (_HOST, 0), timeout=timeout_s))

    def fabric(self) -> fabric.Connection:
        """A Fabric connection of its own into the primary, closed by the caller."""
        import fabric

        port = self._record.ssh_port
        connection = fabric.Connection(
            _HOST, user=USER, port=port, connect_timeout=int(CONNECT_S), connect_kwargs=self.trust.credentials
        )
        self.trust.know(connection.client, _HOST, port)
        return connection

    def _connect(self) -> paramiko.SSHClient:
        deadline = time.monotonic() + CONNECT_S
        port = self._record.ssh_port
        while True:
            client = self.trust.client(_HOST, port)
            try:
                client.connect(
                    _HOST,
                    port,
                    USER,
                    timeout=CONNECT_S,
                    banner_timeout=CONNECT_S,
                    auth_timeout=CONNECT_S,
                    **self.trust.credentials,
                )
            except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as error:
                hang_up(client)
                raise GuestError(
                    f"the primary of machine {self._record.name!r} was booted with other keys: {error}",
                    hint="end it and boot it again: `popcorn down`, `popcorn up`",
                ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                hang_up(client)
                if self._closed or time.monotonic() > deadline or not registry.is_live(self._record.name):
                    raise self.broken(error) from error
                self.require_running()
                time.sleep(_RETRY_S)
            else:
                return client

    def lost(self) -> MachineLostError | None:
        """Why the machine is gone, if that is why a connection broke just now."""
        # A machine that ends breaks its connections before its supervisor has written down why.
        deadline = time.monotonic() + _EPITAPH_S
        while registry.is_live(self._record.name) and time.monotonic() < deadline:
            time.sleep(_RETRY_S)
        record = registry.read_record(self._record.name) or self._record
        if record.status != "dead" and registry.is_live(record.name):
            return None
        return MachineLostError(
            f"the machine {record.name!r} is gone: {record.reason or 'it was ended'}",
            hint=f"what it said last: `popcorn log --name {record.name}` ({record.run_dir})",
        )

    def broken(self, error: Exception) -> PopcornError:
        name = self._record.name
        return self.lost() or UnreachedError(
            f"the primary of machine {name!r} does not answer on 127.0.0.1:{self._record.ssh_port}: "
            f"{error or type(error).__name__}",
            hint=f"`popcorn ps --name {name}` and `popcorn log 0 --name {name}` tell how it is",
        )
