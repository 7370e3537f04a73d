# SPDX-License-Identifier: Apache-2.0
"""The sshd of a kernel that the primary started, over the machine's own network with the primary as gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko

from popcorn.errors import GuestError, PopcornError
from popcorn.guest.primary import Primary
from popcorn.guest.ssh import USER, Ssh, UnreachedError, hang_up
from popcorn.guest.trust import Trust
from popcorn.machine import registry
from popcorn.plan.address import address_of

if TYPE_CHECKING:
    import fabric

_PORT = paramiko.config.SSH_PORT
# Its sshd is there before it says that it is up: there is no reason to try again.
_CONNECT_S = 30.0


class Secondary(Ssh):
    """Commands and files in a secondary."""

    def __init__(
        self,
        id: int,
        machine_name: str,
        primary: Primary,
        trust: Trust,
        *,
        require_running: Callable[[], None],
        is_down: Callable[[], bool],
    ) -> None:
        """
        Args:
            require_running: raises GuestError when the kernel has ended; no packet would ever tell.
            is_down: whether the kernel says that its network is.
        """
        super().__init__(f"kernel {id}")
        self._id = id
        self._machine_name = machine_name
        self._primary = primary
        self._trust = trust
        self._host = str(address_of(id).v4)
        self._require_running = require_running
        self._is_down = is_down

    def fabric(self) -> fabric.Connection:
        """A Fabric connection of its own into the kernel, closed by the caller."""
        import fabric

        connection = fabric.Connection(
            self._host,
            user=USER,
            port=_PORT,
            gateway=self._primary.fabric(),
            connect_timeout=int(_CONNECT_S),
            connect_kwargs=self._trust.credentials,
        )
        self._trust.know(connection.client, self._host, _PORT)
        return connection

    def _connect(self) -> paramiko.SSHClient:
        with self._primary.handshakes:
            return self._shake_hands()

    def _shake_hands(self) -> paramiko.SSHClient:
        client = self._trust.client(self._host, _PORT)
        try:
            client.connect(
                self._host,
                _PORT,
                USER,
                sock=self._primary.tunnel(self._host, _PORT, _CONNECT_S),
                timeout=_CONNECT_S,
                banner_timeout=_CONNECT_S,
                auth_timeout=_CONNECT_S,
                **self._trust.credentials,
            )
        except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as error:
            hang_up(client)
            raise UnreachedError(
                f"kernel {self._id} of machine {self._machine_name!r} has other keys: {error}",
                hint=f"`popcorn console {self._id} --name {self._machine_name}` needs none",
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            hang_up(client)
            raise UnreachedError(
                f"the sshd of kernel {self._id} does not answer at {self._host}: {_cause(error)}",
                hint=f"`popcorn console {self._id} --name {self._machine_name}` needs no network",
            ) from error
        except BaseException:
            hang_up(client)
            raise
        return client

    def require_running(self) -> None:
        self._require_running()

    def require_reachable(self) -> None:
        if self._is_down():
            raise UnreachedError(
                f"kernel {self._id} has its network down",
                hint=f"`popcorn console {self._id} --name {self._machine_name}` needs none; "
                "`/init network` there brings it up",
            )

    def broken(self, error: Exception) -> PopcornError:
        if registry.is_live(self._machine_name):
            try:
                self._require_running()
            except PopcornError as ended:
                return ended
        return self._primary.lost() or GuestError(
            f"the connection to kernel {self._id} broke: {_cause(error)}",
            hint=f"`popcorn ps --name {self._machine_name}` and `popcorn log {self._id} --name {self._machine_name}` "
            "tell how it is",
        )


def _cause(error: Exception) -> str:
    if isinstance(error, paramiko.ChannelException):
        return str(error.text)
    return str(error) or type(error).__name__
