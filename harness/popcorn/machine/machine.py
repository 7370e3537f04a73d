# SPDX-License-Identifier: Apache-2.0
"""A machine that runs, or ran, and the ways into its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from popcorn.machine import registry
from popcorn.machine.handle import Handle
from popcorn.machine.registry import Record

if TYPE_CHECKING:
    import socket

    from popcorn.guest.connections import Connections
    from popcorn.guest.finished import Finished
    from popcorn.guest.primary import Primary
    from popcorn.guest.run import Via
    from popcorn.guest.ssh import Ssh
    from popcorn.machine.arrival import KernelBoot


class Machine(Handle):
    """One machine and its kernels."""

    def __init__(self, record: Record, lifeline: socket.socket | None = None) -> None:
        super().__init__(record, lifeline)
        self._connections: Connections | None = None

    def close(self) -> None:
        """Hang up, and let go of the machine: an untied one goes on."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None
        super().close()

    @property
    def connections(self) -> Connections:
        """The ssh connections into its kernels; made at first use."""
        from popcorn.guest.connections import Connections

        if self._connections is None:
            self._connections = Connections(self)
        return self._connections

    @property
    def primary(self) -> Primary:
        """The ssh connection into the primary kernel."""
        return self.connections.primary

    def ssh(self, id: int) -> Ssh:
        """The ssh connection into a kernel.

        Raises:
            UserError: no such kernel in the plan.
            GuestError: the kernel has ended.
        """
        return self.connections.to(id)

    def exec(self, id: int, argv: Sequence[str], *, timeout_s: float | None = None, via: Via = "auto") -> Finished:
        """Run a command in a kernel and wait for its end.

        Args:
            via: ``net`` by ssh, ``vty`` by the terminal line, ``auto`` by the line when the sshd does not answer.

        Raises:
            UserError: no such kernel in the plan.
            GuestError: the kernel cannot be reached.
            MachineLostError: the machine is gone.
        """
        from popcorn.guest.run import run_in

        return run_in(self.connections, id, argv, timeout_s=timeout_s, via=via)

    def exec_all(
        self, argv: Sequence[str], *, timeout_s: float | None = None, via: Via = "auto", together: bool = True
    ) -> dict[int, Finished]:
        """Run a command in every kernel of the plan, side by side; errors are told in each answer.

        Args:
            via: as for `exec`; for many kernels ``auto`` is the lines, and the network where one does not answer.
            together: begin in all of them at once; many that were just restored answer sooner if they do not.
        """
        from popcorn.guest.run import run_in_all

        return run_in_all(self.connections, argv, timeout_s=timeout_s, via=via, together=together)

    def boot_times(self) -> list[KernelBoot]:
        """How long each kernel took to boot."""
        from popcorn.machine.arrival import boot_times

        return boot_times(self)


def attach(name: str = registry.DEFAULT_NAME) -> Machine:
    """A machine that somebody started; dead ones too, for what was recorded of them.

    Raises:
        UserError: there is none of that name.
    """
    return Machine(registry.find(name))


def attach_up(name: str = registry.DEFAULT_NAME) -> Machine:
    """A machine that is up.

    Raises:
        UserError: there is none of that name.
        MachineLostError: it has died.
    """
    return Machine(registry.find_up(name))
