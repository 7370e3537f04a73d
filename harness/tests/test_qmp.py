# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor, with a script at the other end of the socket."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from popcorn.ending import EndedError, ending_orderly
from popcorn.errors import MachineLostError
from popcorn.machine.qmp import Qmp

_GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """The socket of one that greets and answers no command."""
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with listening.accept()[0] as connected:
                connected.sendall(json.dumps(_GREETING).encode() + b"\n")
                # That QMP may begin; what follows is heard.
                asked = json.loads(connected.recv(1000))
                answer = {"return": {}} | {key: asked[key] for key in ("id",) if key in asked}
                connected.sendall(json.dumps(answer).encode() + b"\n")
                while connected.recv(1000):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_interrupted_while_qemu_answers_hears_of_nothing_else(
    silent: Path, caplog: pytest.LogCaptureFixture, number: signal.Signals
) -> None:
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = signal.signal(number, usual[number])
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))

    def command() -> None:
        with Qmp(silent, timeout_s=60) as qmp:
            timer.start()
            qmp.execute("query-status")

    try:
        with pytest.raises(EndedError), ending_orderly():
            command()
    finally:
        timer.join()
        signal.signal(number, before)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_qemu_that_does_not_answer_is_lost(silent: Path) -> None:
    with Qmp(silent, timeout_s=0.2) as qmp, pytest.raises(MachineLostError, match="did not answer"):
        qmp.execute("query-status")
