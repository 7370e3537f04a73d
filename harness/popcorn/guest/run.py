# SPDX-License-Identifier: Apache-2.0
"""Commands in any kernel: over the network or through its terminal line, and if one does not work by the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from popcorn.errors import GuestError, UserError
from popcorn.guest import several
from popcorn.guest.finished import Finished
from popcorn.guest.ssh import TimedOutError, UnreachedError
from popcorn.guest.vty import may_have_run, run_by_line, run_by_lines, unanswered
from popcorn.progress import note

if TYPE_CHECKING:
    from popcorn.guest.connections import Connections
    from popcorn.guest.ssh import OnOutput

Via = Literal["auto", "net", "vty"]
_AT_ONCE = 256
# The first handshake with a kernel takes an emulated CPU 0.2 to 0.3 s, and each has few of the host's: so many
# kernels have answered by their lines before.
_MANY = 8


def run_in(
    connections: Connections,
    id: int,
    argv: Sequence[str],
    *,
    timeout_s: float | None = None,
    on_output: OnOutput | None = None,
    via: Via = "auto",
) -> Finished:
    """Run a command in a kernel; see `Machine.exec`."""
    if not argv:
        raise UserError("there is no command to run", hint="popcorn exec ID -- COMMAND [ARGUMENT…]")
    ssh = connections.to(id)
    if via == "vty" and id != connections.machine.plan.primary.id:
        return run_by_line(connections, id, argv, timeout_s=timeout_s, on_output=on_output)
    try:
        return ssh.run(argv, timeout_s=timeout_s, on_output=on_output)
    except UnreachedError as error:
        if via == "net" or id == connections.machine.plan.primary.id:
            raise
        note(f"{error}; its terminal line is used")
        return run_by_line(connections, id, argv, timeout_s=timeout_s, on_output=on_output)


def run_in_several(
    connections: Connections,
    argv: Sequence[str],
    ids: Sequence[int],
    *,
    timeout_s: float | None = None,
    via: Via = "auto",
    together: bool = True,
) -> Iterator[tuple[int, Finished]]:
    """Run a command in several kernels at a time; their answers come in the order of ``ids``.

    A kernel that cannot be reached gets status 125 and the reason as its stderr, one that took too long 124.

    Args:
        together: begin in all of them at once. Many that were just restored answer sooner if they do not.

    Raises:
        UserError: no such kernel.
        MachineLostError: the machine is gone.
    """
    for id in ids:
        connections.machine.plan.partition(id)
    if via == "vty" or (via == "auto" and len(ids) > _MANY):
        for id, done in run_by_lines(connections, argv, ids, timeout_s=timeout_s, together=together):
            by_net = via == "auto" and unanswered(done) and not may_have_run(done)
            yield id, _answer(connections, id, argv, timeout_s, "net") if by_net else done
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            waiting = [(id, pool.submit(_answer, connections, id, argv, timeout_s, via)) for id in ids]
            for id, answer in waiting:
                yield id, answer.result()
        except BaseException:
            # An interrupt does not wait for what still runs.
            pool.shutdown(wait=False, cancel_futures=True)
            connections.close()
            raise


def _answer(connections: Connections, id: int, argv: Sequence[str], timeout_s: float | None, via: Via) -> Finished:
    try:
        return run_in(connections, id, argv, timeout_s=timeout_s, via=via)
    except GuestError as error:
        status = several.TIMED_OUT if isinstance(error, TimedOutError) else several.UNREACHED
        return Finished(tuple(argv), status, b"", f"popcorn: {error}\n".encode())


def run_in_all(
    connections: Connections,
    argv: Sequence[str],
    *,
    timeout_s: float | None = None,
    via: Via = "auto",
    together: bool = True,
) -> dict[int, Finished]:
    """Run a command in every kernel of the plan; see `run_in_several`."""
    ids = [partition.id for partition in connections.machine.plan.partitions]
    return dict(run_in_several(connections, argv, ids, timeout_s=timeout_s, via=via, together=together))
