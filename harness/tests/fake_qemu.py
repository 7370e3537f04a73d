# SPDX-License-Identifier: Apache-2.0
"""Stands in for QEMU: opens the machine's memory, answers on the monitor, and plays kernels in the shared region.

``$FAKE_QEMU`` tells how the kernels behave: ``well``, ``stuck``, ``panic``, ``primary-panic``, ``launch-failure``, or
``refuses`` (QEMU itself ends with an error), ``reboots`` (it ends as after a guest's reset).
"""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from shared_region import WrittenRegion

USERNET = "  TCP[HOST_FORWARD]  10  127.0.0.1 42811  10.0.2.15  22  0  0\n"


def main(argv: list[str]) -> int:
    if "--version" in argv:
        print("QEMU emulator version 7.2.22 (a stand-in)")
        return 0
    part = os.environ["FAKE_QEMU"]
    if part == "refuses":
        print("qemu-system-x86_64: error: cannot do this", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    quitting = threading.Event()
    for name in ("monitor.sock", "qmp.sock"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.listen()
        threading.Thread(target=serve, args=(listener, quitting), daemon=True).start()
    play(argv, part)
    if part == "reboots":
        time.sleep(0.5)
        quitting.set()
        time.sleep(0.3)
        return 0
    while True:
        time.sleep(1)


def serve(listener: socket.socket, quitting: threading.Event) -> None:
    connection, _ = listener.accept()

    def say(message: object) -> None:
        connection.sendall((json.dumps(message) + "\n").encode())

    say({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}})

    def farewell() -> None:
        quitting.wait()
        say(
            {
                "event": "SHUTDOWN",
                "data": {"guest": True, "reason": "guest-reset"},
                "timestamp": {"seconds": 1, "microseconds": 0},
            }
        )

    threading.Thread(target=farewell, daemon=True).start()
    for request in requests(connection):
        line = request.get("arguments", {}).get("command-line")
        answer = USERNET if line == "info usernet" else f"what {line} prints\n" if line else {}
        say({"return": answer, "id": request.get("id")})


def requests(connection: socket.socket) -> Iterator[Any]:
    """QMP messages need no newline between them."""
    heard = ""
    while data := connection.recv(4096):
        heard += data.decode()
        while heard.strip():
            try:
                request, end = json.JSONDecoder().raw_decode(heard.lstrip())
            except ValueError:
                break
            heard = heard.lstrip()[end:]
            yield request


def play(argv: list[str], part: str) -> None:
    words = " ".join(argv)
    found = re.search(r"popcorn=(\d+)M@(0x[0-9a-f]+),(\d+)", words)
    path = re.search(r"mem-path=([^,]+)", words)
    if not found or not path:
        return
    size, start = int(found[1]) << 20, int(found[2], 16)
    with open(path[1], "r+b") as memory:
        region = mmap.mmap(memory.fileno(), size, offset=start)
    kernels = [int(id) for id in os.environ["FAKE_KERNELS"].split(",")]
    written = WrittenRegion(int(found[3]), region, start=start)
    for id in kernels:
        written.log(id, f"hello from {id}\n".encode())
        written.set(id, "running", "user").heartbeat = 1
    if part == "stuck":
        written.set(kernels[-1], "started", "trampoline")
    elif part == "panic":
        written.set(kernels[-1], "dead", "smp").reason = b"no more magic smoke"
    elif part == "primary-panic":
        written.set(0, "early", "console")
        serial = re.search(r"logfile=([^, ]*serial\.log)", words)
        assert serial is not None, words
        with open(serial[1], "a") as log:
            log.write("[    1.2] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---\r\n")
    elif part == "launch-failure":
        written.set(kernels[-1], "none", "none")
        written.log(0, f"popcorn-launch: {kernels[-1]} failed: CPU {kernels[-1]} is in use\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
