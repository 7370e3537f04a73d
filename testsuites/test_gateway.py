# SPDX-License-Identifier: Apache-2.0
"""The kernel with the network card is the others' way to the host; kernels know each other's names."""

from __future__ import annotations

import hashlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from popcorn.machine.machine import Machine
from popcorn.testing import EVERY_SERIES, Kernel

pytestmark = pytest.mark.machine("small", policy="per-core", series=EVERY_SERIES)

Everywhere = Callable[[str], dict[int, str]]
# How QEMU's network shows the host's loopback to its guest.
_HOST = "10.0.2.2"
_STREAM = bytes(range(256)) * (1 << 14)


class _Handler(socketserver.StreamRequestHandler):
    """Greets who says its name; sends the stream to who wants it; tells the sum of a stream that it gets."""

    def handle(self) -> None:
        asked = self.rfile.readline().strip()
        if asked == b"download":
            self.wfile.write(_STREAM)
        elif asked == b"upload":
            self.wfile.write(hashlib.sha256(self.rfile.read()).hexdigest().encode())
        else:
            self.wfile.write(b"hello " + asked)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextmanager
def _host_server() -> Iterator[int]:
    """A server on this host's loopback; gives its port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_every_kernel_reaches_the_host_through_the_primary(everywhere: Everywhere) -> None:
    with _host_server() as port:
        answers = everywhere(f"echo $(hostname) | busybox nc -w 30 {_HOST} {port}")
    expected = {id: f"hello kernel-{id}" for id in answers if id}
    assert {id: text for id, text in answers.items() if id} == expected


def test_large_segments_of_the_inner_network_get_through_the_smaller_outer_one(
    kernels: list[int], kernel: Callable[[int], Kernel]
) -> None:
    digest = hashlib.sha256(_STREAM).hexdigest()
    far = kernel(kernels[-1])
    with _host_server() as port:
        to_host = f"busybox nc -w 60 {_HOST} {port}"
        assert far.shell(f"echo download | {to_host} | tee /tmp/stream | sha256sum").split()[0] == digest
        assert far.shell(f"(echo upload; cat /tmp/stream) | {to_host}; rm /tmp/stream") == digest


def test_a_kernel_that_is_not_routed_does_not_get_out(kernels: list[int], kernel: Callable[[int], Kernel]) -> None:
    far = kernel(kernels[-1])
    route = "default gw 10.80.0.1"
    with _host_server() as port:
        ask = f"echo x | busybox nc -w 5 {_HOST} {port}"
        far.shell(f"busybox route del {route}")
        try:
            assert far.run(["sh", "-c", ask]).status != 0
        finally:
            far.shell(f"busybox route add {route}")
        assert far.shell(ask) == "hello x"


def test_kernels_know_each_other_and_themselves_by_name(
    machine: Machine, kernels: list[int], everywhere: Everywhere
) -> None:
    script = "; ".join(f"busybox ping -q -c 1 -W 20 kernel-{id} | head -n 1" for id in kernels)
    expected = [f"PING kernel-{id} (10.80.0.{id + 1})" for id in kernels]
    for id, text in everywhere(script).items():
        assert [line.partition(":")[0] for line in text.splitlines()] == expected, f"in kernel {id}"
    names = {id: text.strip() for id, text in everywhere("hostname").items()}
    assert all(name == f"kernel-{id}" for id, name in names.items() if id != machine.plan.primary.id)
