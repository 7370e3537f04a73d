# SPDX-License-Identifier: Apache-2.0
"""The ssh connections that are open into the kernels of a machine."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from popcorn.errors import GuestError
from popcorn.guest.primary import Primary
from popcorn.guest.secondary import Secondary
from popcorn.guest.ssh import Ssh
from popcorn.guest.trust import load_trust
from popcorn.machine.layout import NotFormattedError, Slot
from popcorn.machine.peers import says_network_is_down

if TYPE_CHECKING:
    from popcorn.machine.handle import Handle


class Connections:
    """Made at first use, and used again. Threads may share it."""

    def __init__(self, machine: Handle) -> None:
        self.machine = machine
        self._secondaries: dict[int, tuple[int, Secondary]] = {}
        self._lock = threading.Lock()

    @cached_property
    def primary(self) -> Primary:
        """Into the primary."""
        return Primary(self.machine.record, load_trust(), require_running=self._require_primary)

    def to(self, id: int) -> Ssh:
        """Into any kernel.

        Raises:
            UserError: no such kernel in the plan.
            GuestError: the kernel has ended, or the primary, which leads to all others.
        """
        self.machine.plan.partition(id)
        # One that is dead would be waited for in vain, as a slow one is.
        self._require_primary()
        with self._lock:
            if id == self.machine.plan.primary.id:
                return self.primary
            generation = self._generation(id)
            known = self._secondaries.get(id)
            if known is not None and known[0] == generation:
                return known[1]
            # Connections to a kernel that ended would wait for it in vain.
            if known is not None:
                known[1].close()
            ssh = Secondary(
                id,
                self.machine.name,
                self.primary,
                self.primary.trust,
                require_running=lambda: self._require_generation(id, generation),
                is_down=lambda: says_network_is_down(self.machine.record, self.machine.memory, id),
            )
            self._secondaries[id] = generation, ssh
            return ssh

    def _generation(self, id: int) -> int:
        """How many kernels have had this id; 0 if that cannot be known. Raises GuestError if the last one has ended."""
        machine = self.machine
        if not machine.record.region_size:
            return 0
        slot = machine.region().slot(id)
        if slot.ended:
            raise GuestError(
                f"kernel {id} has ended: {_how(slot)}",
                hint=f"its console: `popcorn log {id} --name {machine.name}`; "
                f"`popcorn start {id} --name {machine.name}` starts it again",
            )
        return slot.generation

    def _require_primary(self) -> None:
        machine = self.machine
        if not machine.record.region_size:
            return
        try:
            slot = machine.region().slot(machine.plan.primary.id)
        except NotFormattedError:
            # It is booting.
            return
        if slot.ended:
            raise GuestError(
                f"the primary of machine {machine.name!r} has ended, and every way into its kernels led through it: "
                f"{_how(slot)}",
                hint=f"what became of all: `popcorn diagnose --name {machine.name}`; "
                f"`popcorn down --name {machine.name}` and `popcorn up` boot it again",
            )

    def _require_generation(self, id: int, generation: int) -> None:
        if self._generation(id) != generation:
            raise GuestError(f"kernel {id} has ended, and another was started in its place")

    def close(self) -> None:
        """Hang up all."""
        with self._lock:
            for _, ssh in self._secondaries.values():
                ssh.close()
            self._secondaries.clear()
            if "primary" in self.__dict__:
                self.primary.close()


def _how(slot: Slot) -> str:
    how = "it has parked" if slot.state == "parked" else f"it is {slot.state}"
    return f"{how}, {slot.reason}" if slot.reason else how
