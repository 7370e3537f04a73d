# SPDX-License-Identifier: Apache-2.0
"""The user's terminal, or streams, joined to a shell or a command in a kernel by ssh."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import paramiko

from popcorn.guest.ssh import Ssh, Terminal, feed
from popcorn.guest.terminal import converse

_CHUNK_BYTES = 1 << 15


def log_in(ssh: Ssh) -> None:
    """A login shell on a terminal of its own, until it ends or ``~.`` is typed at the beginning of a line.

    Raises:
        GuestError: the kernel does not answer.
        MachineLostError: the machine is gone.
    """
    size = shutil.get_terminal_size()
    terminal = Terminal(os.environ.get("TERM", "vt100"), size.columns, size.lines)
    with ssh.command([], terminal=terminal) as channel, _following_size(channel):
        converse(channel)


def run_joined(ssh: Ssh, argv: Sequence[str]) -> int:
    """A command (a shell if there is none) with our stdin, stdout and stderr; returns its exit status. Errors as for
    `log_in`."""
    with ssh.command(argv) as channel:
        feed(channel, iter(lambda: os.read(sys.stdin.fileno(), _CHUNK_BYTES), b""))
        return ssh.collect(channel, argv, None, _pass_on).status


def _pass_on(stream: str, data: bytes) -> None:
    target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
    target.write(data)
    target.flush()


@contextmanager
def _following_size(channel: paramiko.Channel) -> Iterator[None]:
    """The far terminal is as large as ours."""

    def resize(_number: int, _frame: FrameType | None) -> None:
        size = shutil.get_terminal_size()
        with suppress(paramiko.SSHException, OSError):
            channel.resize_pty(size.columns, size.lines)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
