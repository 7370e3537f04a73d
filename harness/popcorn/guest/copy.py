# SPDX-License-Identifier: Apache-2.0
"""Files between this host and kernels, through `cat` and `sha256sum` there: no sftp-server has to be in every image.

A file appears under its name when it is complete and the sums of both ends agree.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

import paramiko

from popcorn.errors import GuestError, PopcornError, UserError, from_os_error
from popcorn.guest.ssh import Ssh

_CHUNK_BYTES = 1 << 16
_STALL_S = 60.0
# How slowly an emulated kernel may add up what it has got.
_SUM_BYTES_PER_S = 1 << 20

Told = Callable[[int, int], None]
"""Called with the bytes so far and all bytes."""

# In a folder the file keeps its name. It is told where the file goes in the end. Files of a guest are in its memory: it
# would kill processes for one that does not fit, so that is refused, and a sixteenth is left to them.
_RECEIVE = """
target=$1
if [ -d "$target" ]; then target=${target%/}/$2; fi
folder=$(dirname "$target")
room() {
    read -r blocks size <<EOF
$(stat -f -c "%a %S" "$folder" 2>/dev/null)
EOF
    while read -r key kib _; do
        [ "$key" = MemAvailable: ] && break
    done </proc/meminfo
    available=$((kib * 960)) free=$((${blocks:-0} * ${size:-0}))
    if [ $free -gt 0 ] && [ $free -lt $available ]; then available=$free; fi
    echo $available
}
if [ "$4" -gt "$(room)" ]; then
    echo "it has $4 bytes, and there is room for $(room)" >&2
    exit 1
fi
if cat >"$target.part" && chmod "$3" "$target.part" && sum=$(sha256sum <"$target.part"); then
    echo "${sum%% *} $target"
else
    rm -f "$target.part"
    exit 1
fi
"""
_SEND = """
if [ -d "$1" ]; then echo "it is a directory" >&2; exit 1; fi
stat -L -c "%a %s" "$1" && cat "$1"
"""


def send_file(ssh: Ssh, source: Path, target: str, told: Told | None = None, *, name: str = "") -> int:
    """Copy a file of this host into a kernel, with its permissions; returns how many bytes.

    Args:
        target: a path in the kernel, or an existing folder.
        name: what it is called there when the target is a folder; the source's name if not given.

    Raises:
        UserError: the source cannot be read or the target not be written.
        GuestError: the kernel does not answer, or what arrived is not what was sent.
        MachineLostError: the machine is gone.
    """
    try:
        stream = source.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error
    with stream:
        status = os.fstat(stream.fileno())
        words = ["sh", "-c", _RECEIVE, "sh", target, name or source.name]
        words += [f"{status.st_mode & 0o777:o}", str(status.st_size)]
        with ssh.command(words) as channel:
            channel.settimeout(_STALL_S)
            digest, nr_bytes = _send(channel, stream, status.st_size, told)
            done = ssh.collect(channel, ["cp", target], _sum_s(nr_bytes), None)
    if done.status:
        raise UserError(f"cannot write {target} in {ssh.what}: {_last_line(done.stderr_text)}")
    arrived, _, place = done.stdout_text.rstrip("\n").partition(" ")
    matches = arrived == digest
    end = ["mv", f"{place}.part", place] if matches else ["rm", "-f", f"{place}.part"]
    moved = ssh.run(end, timeout_s=_STALL_S)
    if not matches:
        raise GuestError(f"{source} has sha256 {digest}, and what arrived in {ssh.what} has {arrived}")
    if moved.status:
        raise UserError(f"cannot write {place} in {ssh.what}: {_last_line(moved.stderr_text)}")
    return nr_bytes


def fetch_file(ssh: Ssh, source: str, target: Path, told: Told | None = None) -> int:
    """Copy a file of a kernel to this host, with its permissions; returns how many bytes. Errors as for `send_file`.

    Args:
        target: a path on this host, or an existing folder.
    """
    if target.is_dir():
        target /= PurePosixPath(source).name
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
            part = Path(stream.name)
            try:
                mode, nr_bytes = _receive(ssh, source, stream, told)
                stream.flush()
                part.chmod(mode)
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise _cannot_write(target, error) from error
    return nr_bytes


def _send(channel: paramiko.Channel, stream: BinaryIO, size: int, told: Told | None) -> tuple[str, int]:
    """Give a kernel the content; returns its sha256 and length."""
    digest, nr_bytes = hashlib.sha256(), 0
    while piece := stream.read(_CHUNK_BYTES):
        try:
            channel.sendall(piece)
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException):
            # Who cannot write closes its end, and then says why.
            break
        digest.update(piece)
        nr_bytes += len(piece)
        if told is not None:
            told(nr_bytes, size)
    channel.shutdown_write()
    return digest.hexdigest(), nr_bytes


def _receive(ssh: Ssh, source: str, stream: IO[bytes], told: Told | None) -> tuple[int, int]:
    """Take a kernel's file; returns mode and size."""
    words = ["sh", "-c", _SEND, "sh", source]
    digest, nr_bytes = hashlib.sha256(), 0
    with ssh.command(words) as channel:
        channel.settimeout(_STALL_S)
        channel.shutdown_write()
        received = b""
        while b"\n" not in received and (piece := channel.recv(_CHUNK_BYTES)):
            received += piece
        head, _, content = received.partition(b"\n")
        mode, _, size = head.decode("ascii", "replace").partition(" ")
        while content or (content := channel.recv(_CHUNK_BYTES)):
            _write(stream, content)
            digest.update(content)
            nr_bytes += len(content)
            if told is not None:
                told(nr_bytes, int(size))
            content = b""
        done = ssh.collect(channel, ["cp", source], _STALL_S, None)
    if done.status or not head:
        raise UserError(f"cannot read {source} in {ssh.what}: {_last_line(done.stderr_text)}")
    summed = ssh.run(["sha256sum", source], timeout_s=_sum_s(nr_bytes))
    if summed.stdout_text.lstrip("\\").partition(" ")[0] != digest.hexdigest():
        raise GuestError(
            f"what arrived of {shlex.quote(source)} has sha256 {digest.hexdigest()}, "
            f"and the file in {ssh.what} now has another",
            hint="was it written to meanwhile? Then copy it again",
        )
    return int(mode, 8), nr_bytes


def _write(stream: IO[bytes], piece: bytes) -> None:
    try:
        stream.write(piece)
    except OSError as error:
        raise _cannot_write(Path(stream.name), error) from error


def _cannot_write(path: Path, error: OSError) -> PopcornError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return from_os_error(error)
    return UserError(f"cannot write {path}: {error.strerror}")


def _sum_s(nr_bytes: int) -> float:
    return _STALL_S + nr_bytes / _SUM_BYTES_PER_S


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it gave no reason"
