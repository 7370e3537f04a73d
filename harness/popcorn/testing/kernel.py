# SPDX-License-Identifier: Apache-2.0
"""A kernel of a test's machine, as the test sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from popcorn.guest.finished import Finished
    from popcorn.guest.run import Via
    from popcorn.machine.machine import Machine

COMMAND_S = 120.0


@dataclass(frozen=True)
class Kernel:
    """One kernel of the machine."""

    machine: Machine
    id: int

    via: Via = "auto"
    """How it is reached."""

    def run(self, argv: Sequence[str], *, timeout_s: float = COMMAND_S) -> Finished:
        """Run a command in it.

        Raises:
            GuestError: the kernel cannot be reached.
            MachineLostError: the machine is gone.
        """
        return self.machine.exec(self.id, argv, timeout_s=timeout_s, via=self.via)

    def shell(self, script: str) -> str:
        """What a shell script in it prints; it must succeed."""
        done = self.run(["sh", "-c", script])
        assert done.status == 0, f"kernel {self.id}: {script!r} ended with {done.status}: {done.stderr_text}"
        return done.stdout_text


KernelById = Callable[[int], Kernel]
Everywhere = Callable[[str], dict[int, str]]
"""A shell script to what it prints in each kernel."""


def everywhere_in(machine: Machine) -> Everywhere:
    """What a shell script prints in each kernel of a machine; it must succeed in all."""

    def run(script: str) -> dict[int, str]:
        answers = machine.exec_all(["sh", "-c", script], timeout_s=COMMAND_S, together=False)
        for id, done in answers.items():
            assert done.status == 0, f"kernel {id}: {script!r} ended with {done.status}: {done.stderr_text}"
        return {id: done.stdout_text for id, done in answers.items()}

    return run
