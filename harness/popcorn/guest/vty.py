# SPDX-License-Identifier: Apache-2.0
"""Commands in kernels through their terminal lines, typed by a program on the primary: what needs no network."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from popcorn.errors import GuestError
from popcorn.guest import several
from popcorn.guest.finished import Finished
from popcorn.guest.several import TIMED_OUT, UNREACHED
from popcorn.guest.ssh import TimedOutError
from popcorn.machine.progress import CpuTimes
from popcorn.machine.room import HOST_CPUS, Room

if TYPE_CHECKING:
    from popcorn.guest.connections import Connections
    from popcorn.guest.ssh import OnOutput
    from popcorn.machine.handle import Handle

# What a shell has to answer in. One of many that begin at a time has few of the host's CPUs, above all when those that
# answered already do what they were told.
_CONNECT_S = 30
_GRACE_S = 30.0
# A kernel whose CPUs have run for less was restored, and most of its code is new to QEMU (`popcorn.machine.room`).
_NEW_S = 0.5


def run_by_line(
    connections: Connections,
    id: int,
    argv: Sequence[str],
    *,
    timeout_s: float | None = None,
    on_output: OnOutput | None = None,
) -> Finished:
    """Run a command in a secondary.

    Raises:
        TimedOutError: the command took too long.
        GuestError: it does not answer.
        MachineLostError: the machine is gone.
    """
    done = connections.primary.run(
        [*_launcher(timeout_s), str(id), "--", *argv],
        timeout_s=None if timeout_s is None else timeout_s + _GRACE_S,
        on_output=on_output,
    )
    if unanswered(done):
        name = connections.machine.name
        raise GuestError(
            f"kernel {id} does not answer: {done.stderr_text.strip()}",
            hint=f"`popcorn ps --name {name}` and `popcorn log {id} --name {name}` tell how it is",
        )
    if done.status == TIMED_OUT and timeout_s is not None:
        raise TimedOutError(f"{shlex.join(argv)} did not end within {timeout_s:g} s in kernel {id}")
    return Finished(tuple(argv), done.status, done.stdout, done.stderr)


def unanswered(done: Finished) -> bool:
    """Whether that is not the command's answer: nobody is at the other end of the line."""
    return done.status == UNREACHED and done.stderr.lstrip().startswith(b"popcorn-vty:")


def may_have_run(done: Finished) -> bool:
    """Whether the command may have run, although that is not its answer."""
    return b"the command may have run" in done.stderr


def run_by_lines(
    connections: Connections,
    argv: Sequence[str],
    ids: Sequence[int],
    *,
    timeout_s: float | None = None,
    together: bool = True,
) -> Iterator[tuple[int, Finished]]:
    """Run a command in several kernels, the primary too; one that cannot be reached gets status 125, one that took
    too long 124.

    Args:
        together: begin in all of them at once, whatever that costs.
    """
    primary = connections.primary
    command = several.script(
        argv,
        primary=connections.machine.plan.primary.id,
        launcher=_launcher(timeout_s, connect_s=_CONNECT_S + min(len(ids), several.AT_ONCE)),
    )
    return several.answers(
        lambda words, turns, hear: primary.run(words, stdin=turns, on_output=hear),
        command,
        ids,
        argv,
        several.Pace() if together else _pace(connections.machine, ids),
    )


def _pace(machine: Handle, ids: Sequence[int]) -> several.Pace:
    times = CpuTimes(machine.record.qemu_pid)
    ran_s = {cpu: ran_s for cpu, (ran_s, _) in times.read(range(machine.plan.machine.nr_cpus)).items()}
    new = sum(sum(ran_s.get(cpu, _NEW_S) for cpu in machine.plan.partition(id).cpus) < _NEW_S for id in ids)
    if 2 * new < len(ids):
        return several.Pace()
    return several.Pace(young=2 * HOST_CPUS, spare=Room(times, ran_s).spare)


def _launcher(timeout_s: float | None, connect_s: int = _CONNECT_S) -> list[str]:
    limit = ["--timeout", f"{max(1, round(timeout_s))}"] if timeout_s is not None else []
    return ["popcorn-vty", "exec", *limit, "--connect-timeout", f"{connect_s}"]
