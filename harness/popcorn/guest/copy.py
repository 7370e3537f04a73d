# SPDX-License-Identifier: Apache-2.0
"""Files between this host and kernels, through `cat` and `sha256sum` there: no sftp-server has to be in every image.

A file appears under its name when it is complete and the sums of both ends agree.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import stat
import tempfile
from collections.abc import Callable
from io import BufferedReader
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

DAMAGED = 3
_FOLDER_HINT = "a whole folder: `tar c FOLDER | popcorn ssh ID -- tar x -C /tmp`, and the same the other way"

# In a folder the file keeps its name. What a symbolic link names is written, not the link. Files of a guest are in its
# memory: it would kill processes for one that does not fit, so that is refused, and a sixteenth is left to them. What
# came is kept only if it has the sum, so that nothing stays of a copy that was broken off.
RECEIVE = """
name=$2 mode=$3 size=$4 sum=$5
refuse() {
    echo "$1" >&2
    exit 2
}
case $1 in
    /*) target=$1 ;;
    *) target=./$1 ;;
esac
[ -d "$target" ] && target=${target%/}/$name
case $target in
    */) refuse "there is no folder ${target%/}" ;;
esac
if [ -L "$target" ]; then
    [ -e "$target" ] || refuse "$target is a symbolic link to what does not exist"
    target=$(readlink -f "$target")
fi
[ -d "$target" ] && refuse "$target is a folder"
if [ -e "$target" ] && [ ! -f "$target" ]; then
    refuse "$target is no regular file; what writes to it: popcorn ssh ID -- sh -c 'cat >$target' <FILE"
fi
folder=${target%/*}/
[ -d "$folder" ] || refuse "there is no folder ${folder%/}"
room() {
    read -r blocks block_size <<EOF
$(stat -f -c "%a %S" "$folder" 2>/dev/null)
EOF
    memory=0
    while read -r key kib _; do
        case $key in
            MemFree:) memory=$kib ;;  # all that Linux 3.2 tells
            MemAvailable:) memory=$kib && break ;;
        esac
    done </proc/meminfo
    available=$((memory * 960)) free=$((${blocks:-0} * ${block_size:-0}))
    if [ $free -gt 0 ] && [ $free -lt $available ]; then available=$free; fi
    echo $available
}
[ "$size" -gt "$(room)" ] && refuse "it has $size bytes, and there is room for $(room)"
part=
trap '[ -z "$part" ] || rm -f "$part"' EXIT
trap 'exit 143' HUP INT PIPE TERM
part=$(mktemp "$folder.cp.XXXXXX") || refuse "no file can be made in the folder $folder"
cat >"$part" || exit 1
arrived=$(sha256sum <"$part") arrived=${arrived%% *}
if [ "$arrived" != "$sum" ]; then
    echo "$arrived"
    exit 3
fi
chmod "$mode" "$part" && mv -f "$part" "$target"
"""
_SEND = """
refuse() {
    echo "$1" >&2
    exit 2
}
case $1 in
    /*) source=$1 ;;
    *) source=./$1 ;;
esac
[ -e "$source" ] || refuse "there is no such file"
[ -d "$source" ] && refuse "it is a folder"
[ -f "$source" ] || refuse "it is no regular file; what reads from it: popcorn ssh ID -- head -c BYTES $source >FILE"
[ -r "$source" ] || refuse "it may not be read"
stat -L -c "%a %s" "$source" && cat "$source"
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
    with _open(source) as stream:
        status = os.fstat(stream.fileno())
        # Known before it is sent, so that the kernel can tell what came whole without another word from here.
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        words = ["sh", "-c", RECEIVE, "sh", target, name or source.name]
        words += [f"{status.st_mode & 0o777:o}", str(status.st_size), digest]
        with ssh.command(words) as channel:
            channel.settimeout(_STALL_S)
            nr_bytes = _send(channel, stream, status.st_size, told)
            done = ssh.collect(channel, ["cp", target], _sum_s(nr_bytes), None)
    if done.status == DAMAGED:
        raise GuestError(
            f"{source} has sha256 {digest}, and what arrived in {ssh.what} has {done.stdout_text.strip()}",
            hint="was it written to meanwhile? Then copy it again",
        )
    if done.status:
        raise UserError(f"cannot write {target} in {ssh.what}: {_last_line(done.stderr_text)}")
    return nr_bytes


def _open(source: Path) -> BufferedReader:
    """A regular file: the others need not end, and opening some of them waits for another process."""
    try:
        mode = source.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"cannot copy {source}: it is a folder", hint=_FOLDER_HINT)
        if not stat.S_ISREG(mode):
            raise UserError(
                f"cannot copy {source}: it is no regular file",
                hint=f"as much of it as is wanted: head -c BYTES {source} | popcorn ssh ID -- sh -c 'cat >FILE'",
            )
        return source.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error


def fetch_file(ssh: Ssh, source: str, target: str | Path, told: Told | None = None) -> int:
    """Copy a file of a kernel to this host, with its permissions; returns how many bytes. Errors as for `send_file`.

    Args:
        target: a path on this host, or an existing folder; what a symbolic link names is written, not the link.
    """
    target = _place(str(target), PurePosixPath(source).name)
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


def _place(text: str, name: str) -> Path:
    """Where a file goes on this host. Raises UserError if it must not be written there."""
    target = Path(text)
    if target.is_dir():
        target /= name
    elif text.endswith("/"):
        raise UserError(f"cannot write {text}: there is no folder {target}", hint=f"mkdir {target}")
    if target.is_symlink():
        if not target.exists():
            raise UserError(f"cannot write {target}: it is a symbolic link to what does not exist")
        target = target.resolve()
    if target.is_dir():
        raise UserError(f"cannot write {target}: it is a folder", hint="remove it, or give another name")
    if target.exists() and not target.is_file():
        raise UserError(
            f"cannot write {target}: it is no regular file", hint=f"popcorn ssh ID -- cat FILE >{target} writes to it"
        )
    if not target.parent.is_dir():
        raise UserError(f"cannot write {target}: there is no folder {target.parent}", hint=f"mkdir {target.parent}")
    return target


def _send(channel: paramiko.Channel, stream: BinaryIO, size: int, told: Told | None) -> int:
    """Give a kernel the content; returns its length."""
    nr_bytes = 0
    while piece := stream.read(_CHUNK_BYTES):
        try:
            channel.sendall(piece)
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException):
            # Who cannot write closes its end, and then says why.
            break
        nr_bytes += len(piece)
        if told is not None:
            told(nr_bytes, size)
    channel.shutdown_write()
    return nr_bytes


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
        cause = _last_line(done.stderr_text)
        hint = _FOLDER_HINT if cause == "it is a folder" else ""
        raise UserError(f"cannot read {source} in {ssh.what}: {cause}", hint=hint)
    summed = ssh.run(["sha256sum", "--", source], timeout_s=_sum_s(nr_bytes))
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
