# SPDX-License-Identifier: Apache-2.0
"""QEMU's state without memory, out of one QEMU and into another, through a socket in the machine's folder."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from popcorn.errors import HostError, MachineLostError
from popcorn.machine.machine import Machine
from popcorn.machine.qmp import Qmp

# Its whole path is not longer than those of the machine's other sockets.
_SOCKET = "migrate.sock"
# QEMU writes and reads a few MiB; the host may be busy.
_TRANSFER_S = 60.0
_LOOK_S = 0.01
_CHUNK_BYTES = 1 << 20


def take_state(machine: Machine) -> bytes:
    """The state of CPUs and devices of a machine that stands still.

    Raises:
        HostError: QEMU could not write it.
        MachineLostError: the machine is gone.
    """
    place = machine.record.directory / _SOCKET
    place.unlink(missing_ok=True)
    with _named_failures(machine, "save"), machine.qmp() as qmp, socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(_TRANSFER_S)
        listener.bind(str(place))
        listener.listen(1)
        _without_memory(qmp)
        # QEMU's working directory is the machine's folder.
        qmp.execute("migrate", uri=f"unix:{_SOCKET}")
        connection, _ = listener.accept()
        place.unlink()
        with connection:
            connection.settimeout(_TRANSFER_S)
            pieces = []
            while piece := connection.recv(_CHUNK_BYTES):
                pieces.append(piece)
        _await_end(machine, qmp)
    return b"".join(pieces)


def put_state(machine: Machine, qmp: Qmp, state: bytes) -> None:
    """Give a machine that waits for it the state of another one; it stands still then.

    Raises:
        HostError: QEMU could not read it.
        MachineLostError: the machine is gone: QEMU ends when it cannot use a state.
    """
    place = machine.record.directory / _SOCKET
    with _named_failures(machine, "restore"), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TRANSFER_S)
        _without_memory(qmp)
        qmp.execute("migrate-incoming", uri=f"unix:{_SOCKET}")
        connection.connect(str(place))
        connection.sendall(state)
        connection.shutdown(socket.SHUT_WR)
        _await_end(machine, qmp)
    place.unlink(missing_ok=True)


def _without_memory(qmp: Qmp) -> None:
    # Memory that is shared with others, as all of a machine's is, is not migrated.
    qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])


def _await_end(machine: Machine, qmp: Qmp) -> None:
    deadline = time.monotonic() + _TRANSFER_S
    while (answer := qmp.execute("query-migrate")).get("status") != "completed":
        if answer.get("status") in ("failed", "cancelled"):
            raise HostError(f"QEMU gave up: {answer.get('error-desc') or answer['status']}")
        if time.monotonic() > deadline:
            raise HostError(f"QEMU did not get ready within {_TRANSFER_S:g} s: {answer.get('status')}")
        time.sleep(_LOOK_S)


@contextmanager
def _named_failures(machine: Machine, what: str) -> Iterator[None]:
    hint = f"what QEMU says: {machine.run_dir / 'qemu.log'}"
    try:
        yield
    except MachineLostError as error:
        with contextlib.suppress(OSError):
            said = (machine.run_dir / "qemu.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise MachineLostError(
                f"QEMU ended when it was to {what} its state: {said[-1] if said else error}", hint=hint
            ) from error
        raise
    except OSError as error:
        raise HostError(f"QEMU could not {what} its state: {error}", hint=hint) from error
    except HostError as error:
        raise HostError(f"QEMU could not {what} its state: {error}", hint=hint) from error
