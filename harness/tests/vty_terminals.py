# SPDX-License-Identifier: Apache-2.0
"""popcorn-vty on two pseudo-terminals: a line between two kernels that can be slow, full or damaged on purpose."""

from __future__ import annotations

import base64
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[2] / "images" / "programs" / "popcorn-vty"
DEADLINE_S = 30
HELD_S = 0.02


@dataclass
class Line:
    """Two terminals joined as a vty joins two kernels: a shell at the far one."""

    program: Path
    near: int
    near_path: str
    far: int
    far_path: str
    shell: subprocess.Popen[bytes] | None = None
    # What the relay does to the bytes it carries.
    typing_held: bool = False
    answers_held: bool = False
    before_line_s: float = 0
    change_typed: Callable[[bytes], bytes] = bytes
    typed: bytes = b""

    def exec(self, *argv: str, timeout: float = DEADLINE_S) -> subprocess.CompletedProcess[bytes]:
        """Run ``popcorn-vty exec`` on the near end."""
        return subprocess.run(self.argv(*argv), capture_output=True, timeout=timeout, check=False)

    def argv(self, *argv: str) -> list[str]:
        return [str(self.program), "exec", "--device", self.near_path, *argv]

    def start_shell(self) -> None:
        """Put a login shell on the far end, as a secondary's init does."""
        terminal = os.open(self.far_path, os.O_RDWR | os.O_NOCTTY)

        def own_terminal() -> None:
            # A script that starts the tests in its background makes them ignore ^C, and init does not.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.shell = subprocess.Popen(
            ["sh", "-i"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=own_terminal,
            cwd=self.program.parent,
            env={"PATH": f"{self.program.parent}:{os.environ['PATH']}", "TERM": "linux"},
        )
        os.close(terminal)

    def relay(self, stop: int) -> None:
        """Carry bytes both ways until ``stop`` is readable; a direction that is full does not stop the other."""
        pieces: dict[int, list[bytes]] = {self.near: [], self.far: []}
        for fd in pieces:
            os.set_blocking(fd, False)
        while True:
            held = self.typing_held or self.answers_held
            sources = [self.near] if not pieces[self.far] and not self.typing_held else []
            sources += [self.far] if not pieces[self.near] and not self.answers_held else []
            sinks = [fd for fd, waiting in pieces.items() if waiting]
            readable, writable, _ = select.select([*sources, stop], sinks, [], HELD_S if held else None)
            if stop in readable:
                return
            if self.near in readable:
                pieces[self.far] = re.split(b"(?=\x15)", self.change_typed(os.read(self.near, 512)))
            if self.far in readable:
                pieces[self.near] = [os.read(self.far, 512)]
            for fd in writable:
                piece = pieces[fd].pop(0)
                if fd == self.far and piece.startswith(b"\x15"):
                    time.sleep(self.before_line_s)
                written = os.write(fd, piece) if piece else 0
                if fd == self.far:
                    self.typed += piece[:written]
                if written < len(piece):
                    pieces[fd].insert(0, piece[written:])

    def wait_typed(self, pattern: bytes) -> re.Match[bytes]:
        """What a client has typed and the relay has carried, as soon as it matches."""
        for _ in range(DEADLINE_S * 100):
            found = re.search(pattern, self.typed)
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"{pattern!r} was not typed, but {self.typed!r}")

    def token(self) -> str:
        """The token of the session that a client asked for last."""
        self.wait_typed(b"serve [0-9a-f]{16}\n")
        return re.findall(b"serve ([0-9a-f]{16})\n", self.typed)[-1].decode()


def frame(token: str, sequence: int, type: str, payload: bytes = b"") -> bytes:
    """One frame as vty-line.h describes it."""
    text = f"{token} {sequence:08x} {type} {base64.b64encode(payload).decode()} ".encode()
    return b"\x02%b%08x\n" % (text, zlib.crc32(text))


def assert_ended(pid: int, within_s: float = DEADLINE_S) -> None:
    """The process ends soon; whether somebody reaps it is not ours to say."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(int(within_s * 20)):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is still running")


@pytest.fixture(scope="session")
def vty_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("vty") / "popcorn-vty"
    sources = sorted(PROGRAMS.glob("*.c"))
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", f'-DKERNELS="{program.with_name("kernels")}"']
    subprocess.run([compiler, *flags, "-o", program, *sources], check=True)
    return program


@pytest.fixture
def kernels(vty_program: Path) -> Iterator[Path]:
    """What the program takes for /proc/popcorn/kernels; kernel 7 runs."""
    path = vty_program.with_name("kernels")
    write_kernel(path, "running", generation=1)
    yield path
    path.unlink()


def write_kernel(path: Path, state: str, *, generation: int) -> None:
    """Let kernel 7 be in a state."""
    written = path.with_suffix(".new")
    written.write_text(f"ID STATE STAGE GENERATION\n17 dead none 9\n7 {state} user {generation}\n")
    written.replace(path)


@pytest.fixture
def silent_line(vty_program: Path) -> Iterator[Line]:
    """A line with nothing at its far end."""
    near, near_slave = pty.openpty()
    far, far_slave = pty.openpty()
    # Nobody has the near end open between clients, so that it must not echo.
    tty.setraw(near_slave)
    line = Line(vty_program, near, os.ttyname(near_slave), far, os.ttyname(far_slave))
    stop_read, stop_write = os.pipe()
    relay = threading.Thread(target=line.relay, args=(stop_read,))
    relay.start()
    try:
        yield line
    finally:
        if line.shell is not None:
            line.shell.kill()
            line.shell.wait()
        os.write(stop_write, b"x")
        relay.join()
        for fd in (near, near_slave, far, far_slave, stop_read, stop_write):
            os.close(fd)


@pytest.fixture
def line(silent_line: Line) -> Line:
    silent_line.start_shell()
    return silent_line


def ended(client: subprocess.Popen[bytes]) -> str:
    """What the client says when it has ended because the line is of no use any more."""
    _, said = client.communicate(timeout=DEADLINE_S)
    assert client.returncode == 125
    return said.decode()
