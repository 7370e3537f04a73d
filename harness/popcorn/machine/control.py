# SPDX-License-Identifier: Apache-2.0
"""Asking a machine's supervisor, and opening the memory that it holds."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from popcorn.errors import HostError, MachineLostError
from popcorn.machine.lastwords import REGION_DUMP
from popcorn.machine.layout import Region, load_layout
from popcorn.machine.memory import GuestMemory, NodeMemory
from popcorn.machine.registry import Record
from popcorn.machine.supervisor import CONTROL_SOCKET

_ANSWER_S = 10.0

Wish = Literal["status", "keep", "replan", "down", "pause", "resume", "follow"]


class Control:
    """A connection to a machine's supervisor; a context manager."""

    def __init__(self, record: Record) -> None:
        """
        Raises:
            MachineLostError: nobody listens.
        """
        self._record = record
        self._path = record.directory / CONTROL_SOCKET
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from error
        self._answers = self._socket.makefile("r", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.close()
        self._socket.close()

    def ask(self, wish: Wish, **more: Any) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises:
            MachineLostError: there is none.
            HostError: it is a refusal.
        """
        try:
            self._socket.sendall((json.dumps({"do": wish, **more}) + "\n").encode())
            answer: dict[str, Any] = json.loads(self._answers.readline())
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        if "error" in answer:
            raise HostError(f"machine {self._record.name!r}: {answer['error']}")
        return answer

    def _lost(self, error: Exception) -> MachineLostError:
        return MachineLostError(
            f"the supervisor of machine {self._record.name!r} does not answer at {self._path}: {error}",
            hint=f"its log: {self._record.run_dir}/supervisor.log",
        )


def ask(record: Record, wish: Wish, **more: Any) -> dict[str, Any]:
    """Send one request to a machine's supervisor and return its answer; errors as for `Control`."""
    with Control(record) as control:
        return control.ask(wish, **more)


def open_memory(record: Record, *, writable: bool = False) -> GuestMemory:
    """The memory of a machine that is up, through its supervisor's descriptors; close it after use.

    Args:
        writable: whether to open it for writing, too.

    Raises:
        MachineLostError: the supervisor is gone.
        HostError: the host does not let us.
    """
    nodes = []
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
    try:
        for fd, size in record.nodes:
            nodes.append(NodeMemory(os.open(f"/proc/{record.supervisor_pid}/fd/{fd}", flags), size))
    except OSError as error:
        GuestMemory(nodes, record.hole_start).close()
        if isinstance(error, PermissionError):
            raise HostError(f"cannot open the memory of machine {record.name!r}: {error.strerror}") from error
        raise MachineLostError(f"the supervisor of machine {record.name!r} is gone") from error
    return GuestMemory(nodes, record.hole_start)


def open_region(record: Record, memory: GuestMemory) -> Region:
    """The shared region of a machine that is up; errors as for `GuestMemory.map`."""
    if not record.region_size:
        raise HostError(f"machine {record.name!r} runs a kernel without Popcorn: it has no shared region")
    mapping = memory.map(record.region_start, record.region_size)
    return Region(load_layout(Path(record.header)), mapping, record.region_start)


def open_saved_region(record: Record) -> Region:
    """The shared region as it was when the machine ended.

    Raises:
        HostError: it was not saved.
    """
    path = Path(record.run_dir) / REGION_DUMP
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HostError(f"the shared region of the last run was not saved: {error}") from error
    return Region(load_layout(Path(record.header)), content, record.region_start)
