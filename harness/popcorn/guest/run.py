# SPDX-License-Identifier: Apache-2.0
"""Commands in any kernel: the primary by ssh, the others from the primary through their terminal line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from popcorn.errors import GuestError, UserError
from popcorn.guest import several
from popcorn.guest.finished import Finished

if TYPE_CHECKING:
    from popcorn.guest.ssh import OnOutput
    from popcorn.machine.machine import Machine

# The primary serves all of them with the few CPUs that it has.
_AT_ONCE = 16
_VTY_FAILED = 125
_VTY_TIMED_OUT = 124
_VTY_GRACE_S = 30.0


def run_in(
    machine: Machine,
    id: int,
    argv: Sequence[str],
    *,
    timeout_s: float | None = None,
    on_output: OnOutput | None = None,
) -> Finished:
    """Run a command in a kernel; see `Machine.exec`."""
    machine.plan.partition(id)
    if not argv:
        raise UserError("there is no command to run", hint="popcorn exec ID -- COMMAND [ARGUMENT…]")
    if id == machine.plan.primary.id:
        return machine.primary.run(argv, timeout_s=timeout_s, on_output=on_output)
    done = machine.primary.run(
        [*_vty_exec(timeout_s), str(id), "--", *argv],
        timeout_s=None if timeout_s is None else timeout_s + _VTY_GRACE_S,
        on_output=on_output,
    )
    if done.status == _VTY_FAILED and done.stderr.lstrip().startswith(b"popcorn-vty:"):
        raise GuestError(
            f"kernel {id} does not answer: {done.stderr_text.strip()}",
            hint=f"`popcorn ps --name {machine.name}` and `popcorn log {id} --name {machine.name}` tell how it is",
        )
    if done.status == _VTY_TIMED_OUT and timeout_s is not None:
        raise GuestError(f"{shlex.join(argv)} did not end within {timeout_s:g} s in kernel {id}")
    return Finished(tuple(argv), done.status, done.stdout, done.stderr)


def _vty_exec(timeout_s: float | None) -> list[str]:
    limit = ["--timeout", f"{max(1, round(timeout_s))}"] if timeout_s is not None else []
    return ["popcorn-vty", "exec", *limit]


def run_in_several(
    machine: Machine, argv: Sequence[str], ids: Sequence[int], *, timeout_s: float | None = None
) -> Iterator[tuple[int, Finished]]:
    """Run a command in several kernels at a time; their answers come in the order of ``ids``.

    A kernel that cannot be reached gets status 125 and the reason as its stderr, one that took too long 124.

    Raises:
        UserError: no such kernel.
        MachineLostError: the machine is gone.
    """

    for id in ids:
        machine.plan.partition(id)
    primary = machine.primary
    command = several.script(
        ids,
        argv,
        primary=machine.plan.primary.id,
        launcher=_vty_exec(timeout_s),
        at_once=_AT_ONCE,
    )
    answers = several.answers(lambda words, hear: primary.run(words, on_output=hear), command, ids, argv)
    for id, done in answers:
        yield id, done


def run_in_all(machine: Machine, argv: Sequence[str], *, timeout_s: float | None = None) -> dict[int, Finished]:
    """Run a command in every kernel of the plan; see `run_in_several`."""
    ids = [partition.id for partition in machine.plan.partitions]
    return dict(run_in_several(machine, argv, ids, timeout_s=timeout_s))
