# SPDX-License-Identifier: Apache-2.0
"""QMP for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from popcorn.errors import HostError, MachineLostError
from popcorn.machine.pausing import resume

_T = TypeVar("_T")
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


class Qmp:
    """A connection to a machine's monitor; a context manager. QEMU serves one at a time."""

    def __init__(self, socket: Path, *, timeout_s: float = 10.0) -> None:
        """
        Args:
            timeout_s: how long QEMU may take to answer one command.

        Raises:
            MachineLostError: nobody answers at the socket.
        """
        self._timeout_s = timeout_s
        self._socket = socket
        self._client = QMPClient("popcorn")
        self._runner = asyncio.Runner()
        try:
            self._run(self._client.connect(str(socket)))
        except MachineLostError:
            self._runner.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        try:
            self._run(self._client.disconnect())
        except MachineLostError:
            pass
        finally:
            self._runner.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return its value; underscores in argument names stand for dashes.

        Raises:
            HostError: QEMU refused it.
            MachineLostError: QEMU went away or did not answer.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._run(self._client.execute(command, named or None))

    def monitor(self, line: str) -> str:
        """Run a command of the human monitor and return what it prints; errors as for `execute`."""
        return str(self.execute("human-monitor-command", command_line=line))

    def resume(self) -> float:
        """Have all CPUs run; returns when they began, in Unix time. Errors as for `execute`."""
        return self._run(resume(self._client))

    def _run(self, action: Coroutine[Any, Any, _T]) -> _T:
        waiting: list[asyncio.Task[_T]] = []

        async def within() -> _T:
            task = asyncio.current_task()
            assert task is not None
            waiting.append(task)
            return await asyncio.wait_for(action, self._timeout_s)

        try:
            return self._runner.run(within())
        except KeyboardInterrupt:
            # Nobody waits for it any more. What it raises when the connection is closed has to be taken, or asyncio
            # tells of it.
            for task in waiting:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    self._runner.get_loop().run_until_complete(task)
            raise
        except ExecuteError as error:
            raise HostError(f"QEMU refused a command: {error}") from error
        except TimeoutError as error:
            raise MachineLostError(f"QEMU did not answer at {self._socket} within {self._timeout_s:g} s") from error
        except (QMPError, OSError, EOFError) as error:
            raise MachineLostError(f"QEMU does not answer at {self._socket}: {error}") from error


def forwarded_port(usernet: str, guest_port: int) -> int | None:
    """The host's port that leads to a port of the guest, from what ``info usernet`` prints."""
    for host, guest in _FORWARD.findall(usernet):
        if int(guest) == guest_port:
            return int(host)
    return None
