# SPDX-License-Identifier: Apache-2.0
"""QEMU's stub for debuggers, and turns of CPUs, with a script at the other end of the socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popcorn.errors import HostError
from popcorn.machine.debugstub import SOCKET, Stub

Serve = Callable[[Callable[[socket.socket], None]], threading.Thread]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Has a function play the stub for one connection."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / SOCKET))
        listening.listen()
        threads = []

        def begin(play: Callable[[socket.socket], None]) -> threading.Thread:
            def work() -> None:
                with listening.accept()[0] as connected:
                    play(connected)

            threads.append(threading.Thread(target=work))
            threads[-1].start()
            return threads[-1]

        yield begin
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def _until(connected: socket.socket, end: bytes) -> bytes:
    heard = b""
    while not heard.endswith(end):
        piece = connected.recv(100)
        assert piece, heard
        heard += piece
    return heard


def test_cpus_run_and_are_halted(serve: Serve, tmp_path: Path) -> None:
    heard = []

    def play(connected: socket.socket) -> None:
        heard.append(_until(connected, b"#4c"))
        # That the machine stopped, which ran when we connected; and that the order came.
        connected.sendall(b"$T02thread:01;#07+")
        heard.append(_until(connected, b"\x03"))
        for piece in (b"$T02thr", b"ead:01;#", b"07"):
            connected.sendall(piece)
        heard.append(_until(connected, b"+"))

    playing = serve(play)
    with Stub(tmp_path) as stub:
        stub.run([0, 15])
        stub.halt()
    playing.join(10)
    assert heard == [b"$vCont;c:1;c:10#4c", b"\x03", b"+"]


def test_a_stub_that_refuses_to_let_cpus_run_is_the_hosts_failure(serve: Serve, tmp_path: Path) -> None:
    def play(connected: socket.socket) -> None:
        _until(connected, b"#13")
        connected.sendall(b"+$E22#a9")
        _until(connected, b"\x03+")

    serve(play)
    with Stub(tmp_path) as stub:
        stub.run([0])
        with pytest.raises(HostError, match="E22"):
            stub.halt()


def test_a_silent_stub_is_the_hosts_failure(serve: Serve, tmp_path: Path) -> None:
    serve(lambda connected: None)
    with Stub(tmp_path) as stub, pytest.raises(HostError, match=r"QEMU's stub .* does not answer: .+"):
        stub.run([0])
    with pytest.raises(HostError, match="does not answer"):
        Stub(tmp_path / "elsewhere")
