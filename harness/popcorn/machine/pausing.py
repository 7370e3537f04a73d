# SPDX-License-Identifier: Apache-2.0
"""Holding a machine still for one connection to its supervisor, and letting it go on when that closes.

A command that saves the machine may be killed meanwhile; the machine goes on all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from qemu.qmp import QMPClient, QMPError

from popcorn.errors import HostError, UserError

_RESUME_S = 10.0
_RETRY_S = 0.05


class Pausing:
    """The supervisor's side, on its connection to QEMU."""

    def __init__(self, qmp: QMPClient) -> None:
        self._qmp = qmp
        self._holder: object = None

    async def begin(self, holder: object) -> None:
        """Stop all CPUs.

        Raises:
            UserError: they do not run: somebody else holds them, or a debugger.
            HostError: QEMU refused.
        """
        if self._holder is not None:
            raise UserError("another command saves it just now")
        self._holder = holder
        try:
            status = await self._status()
            if status != "running":
                raise UserError(f"its CPUs do not run: QEMU calls it {status}")
            await self._qmp.execute("stop")
        except BaseException as error:
            self._holder = None
            if isinstance(error, QMPError):
                raise HostError(f"QEMU refused to stop: {error}") from error
            raise

    async def end(self, holder: object) -> float | None:
        """Let the CPUs go on, if this is who holds them; returns when they did, in Unix time.

        Raises:
            HostError: they did not go on.
        """
        if holder is not self._holder:
            return None
        try:
            return await self._resume()
        finally:
            self._holder = None

    async def _resume(self) -> float:
        # What was saved half stays so; if all was, this does nothing.
        with contextlib.suppress(QMPError):
            await self._qmp.execute("migrate_cancel")
        deadline = time.monotonic() + _RESUME_S
        while True:
            try:
                return await resume(self._qmp)
            except QMPError as error:
                # A migration that was cancelled takes a moment to end.
                if time.monotonic() > deadline:
                    raise HostError(f"the machine does not go on: {error}") from error
                await asyncio.sleep(_RETRY_S)

    async def _status(self) -> str:
        answer = await self._qmp.execute("query-status")
        return str(answer["status"]) if isinstance(answer, dict) else "silent"


async def resume(qmp: QMPClient) -> float:
    """Have all CPUs run; returns when they began, in Unix time.

    Raises:
        QMPError: QEMU refused.
    """
    with qmp.listener("RESUME") as events:
        await qmp.execute("cont")
        event = await events.get()
    stamp = event["timestamp"]
    assert isinstance(stamp, dict)
    return int(stamp["seconds"]) + int(stamp["microseconds"]) / 1e6
