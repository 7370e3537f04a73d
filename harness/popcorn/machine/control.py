# SPDX-License-Identifier: Apache-2.0
"""Asking a machine's supervisor, and opening the memory that it holds."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Literal

from popcorn.errors import HostError, MachineLostError
from popcorn.machine.layout import Region, load_layout
from popcorn.machine.memory import GuestMemory, NodeMemory
from popcorn.machine.registry import Record
from popcorn.machine.supervisor import CONTROL_SOCKET, REGION_DUMP

_ANSWER_S = 10.0

Wish = Literal["status", "keep", "down"]


def ask(record: Record, wish: Wish) -> dict[str, Any]:
    """Send one request to a machine's supervisor and return its answer.

    Raises:
        MachineLostError: it does not answer.
    """
    path = record.directory / CONTROL_SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(path))
            connection.sendall((json.dumps({"do": wish}) + "\n").encode())
            with connection.makefile("r", encoding="utf-8") as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
    except (OSError, ValueError) as error:
        raise MachineLostError(
            f"the supervisor of machine {record.name!r} does not answer at {path}: {error}",
            hint=f"its log: {record.run_dir}/supervisor.log",
        ) from error
    return answer


def open_memory(record: Record) -> GuestMemory:
    """The memory of a machine that is up, through its supervisor's descriptors; close it after use.

    Raises:
        MachineLostError: the supervisor is gone.
        HostError: the host does not let us.
    """
    nodes = []
    try:
        for fd, size in record.nodes:
            nodes.append(
                NodeMemory(os.open(f"/proc/{record.supervisor_pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC), size)
            )
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
